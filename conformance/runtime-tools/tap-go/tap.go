// Package tap writes results in the Test Anything Protocol, version 13. It stands in for the package of that name that OCI's
// runtime-tools are written against, which Debian does not have: the same functions, only those that are used.
package tap

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// T numbers the assertions of one document. Copies of it (Todo) go on with the same numbers.
type T struct {
	last *int
	todo bool
}

// New starts a document. Nothing is written yet.
func New() *T {
	return &T{last: new(int)}
}

// Header writes the version, and the plan when count says how many assertions will come (0: AutoPlan writes it at the end).
func (t *T) Header(count int) {
	fmt.Println("TAP version 13")
	if count > 0 {
		fmt.Printf("1..%d\n", count)
	}
}

// AutoPlan writes a plan of as many assertions as were made.
func (t *T) AutoPlan() {
	fmt.Printf("1..%d\n", *t.last)
}

// Ok asserts that test holds.
func (t *T) Ok(test bool, description string) {
	*t.last++
	word := "ok"
	if !test {
		word = "not ok"
	}
	mark := "-"
	if t.todo {
		mark = "# TODO"
	}
	// A line break would start another line of the protocol.
	fmt.Printf("%s %d %s %s\n", word, *t.last, mark, strings.ReplaceAll(description, "\n", " "))
}

// Pass asserts something that holds.
func (t *T) Pass(description string) {
	t.Ok(true, description)
}

// Fail asserts something that does not hold.
func (t *T) Fail(description string) {
	t.Ok(false, description)
}

// Skip says that count assertions were not made, and why.
func (t *T) Skip(count int, description string) {
	for ; count > 0; count-- {
		*t.last++
		fmt.Printf("ok %d # SKIP %s\n", *t.last, strings.ReplaceAll(description, "\n", " "))
	}
}

// Todo gives a T whose assertions are expected not to hold yet.
func (t *T) Todo() *T {
	return &T{last: t.last, todo: true}
}

// Diagnostic writes a comment, line by line.
func (t *T) Diagnostic(message string) {
	for _, line := range strings.Split(strings.TrimRight(message, "\n"), "\n") {
		fmt.Printf("# %s\n", line)
	}
}

// Diagnosticf writes a formatted comment.
func (t *T) Diagnosticf(format string, arguments ...interface{}) {
	t.Diagnostic(fmt.Sprintf(format, arguments...))
}

// YAML writes a value below the last assertion. JSON is YAML too.
func (t *T) YAML(value interface{}) error {
	text, err := json.MarshalIndent(value, "  ", "  ")
	if err != nil {
		fmt.Fprintln(os.Stderr, "tap:", err)
		return err
	}
	fmt.Printf("  ---\n  %s\n  ...\n", text)
	return nil
}
