// A Go program: goroutines with preemption, collection, maps, panics from faults, big numbers, hashes, text.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"hash/crc64"
	"io"
	"math"
	"math/big"
	"math/bits"
	"math/rand"
	"regexp"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"text/template"
	"time"
)

func numbers() {
	values := []float64{0, 1, -1, 0.1, 1e21, 1e-7, math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.NaN(), math.Pi}
	for _, v := range values {
		fmt.Printf("%v %e %g %.3f %x %b\n", v, v, v, v, v, v)
		fmt.Println(math.Sqrt(v), math.Floor(v), math.Sin(v), math.Exp(v), math.Log(v), math.Atan(v), math.Pow(v, 1.5), math.Trunc(v), math.RoundToEven(v))
	}
	random := rand.New(rand.NewSource(7))
	bad := 0
	for i := 0; i < 20000; i++ {
		v := math.Float64frombits(random.Uint64())
		back, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', -1, 64), 64)
		if back != v && !math.IsNaN(v) {
			bad++
		}
	}
	sum := uint64(0)
	for i := 0; i < 50000; i++ {
		a, b := random.Uint64(), random.Uint64()|1
		high, low := bits.Mul64(a, b)
		quotient, rest := bits.Div64(high%b, low, b)
		sum = sum*31 + high + quotient + rest + uint64(bits.OnesCount64(a)+bits.LeadingZeros64(a)+bits.TrailingZeros64(b)) + bits.RotateLeft64(a, i)
		sum += uint64(int64(a)/int64(b|3)) + uint64(int32(a)%(int32(b)|3)) + uint64(float64(a)) + uint64(int64(float32(int32(b))))
	}
	fmt.Println(bad, sum)
	product := big.NewInt(1)
	for i := int64(1); i <= 800; i++ {
		product.Mul(product, big.NewInt(i))
	}
	power := new(big.Int).Exp(big.NewInt(3), big.NewInt(20011), new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 521), big.NewInt(1)))
	fmt.Println(product.String()[:60], power, product.ProbablyPrime(3))
}

func routines() {
	var group sync.WaitGroup
	var total int64
	lines := make(chan int, 10)
	for i := 0; i < 200; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			for j := 0; j < 100; j++ {
				atomic.AddInt64(&total, int64(i*j))
				lines <- i ^ j
			}
		}(i)
	}
	go func() { group.Wait(); close(lines) }()
	sum := 0
	for line := range lines {
		sum += line
	}
	fmt.Println(total, sum)
	// Only preemption by a signal lets the main goroutine go on while this one spins.
	runtime.GOMAXPROCS(1)
	stop := int32(0)
	spun := make(chan bool)
	go func() {
		for atomic.LoadInt32(&stop) == 0 {
		}
		spun <- true
	}()
	time.Sleep(30 * time.Millisecond)
	atomic.StoreInt32(&stop, 1)
	fmt.Println("preempted", <-spun)
	select {
	case <-time.After(10 * time.Millisecond):
		fmt.Println("timer")
	case <-lines:
		fmt.Println("closed")
	}
}

type node struct {
	left, right *node
	fill        [4]int
}

func tree(depth int) *node {
	if depth == 0 {
		return &node{}
	}
	return &node{tree(depth - 1), tree(depth - 1), [4]int{depth}}
}

func (n *node) count() int {
	if n == nil {
		return 0
	}
	return 1 + n.left.count() + n.right.count()
}

func memory() {
	kept := tree(12)
	for i := 0; i < 20; i++ {
		tree(10)
		if i%7 == 0 {
			runtime.GC()
		}
	}
	words := map[string]int{}
	for i := 0; i < 30000; i++ {
		words[strconv.Itoa(i*i%9973)] += i
	}
	keys := make([]string, 0, len(words))
	for key := range words {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	sum := 0
	for i, key := range keys {
		sum = (sum*31 + i*words[key]) % 1000000007
	}
	fmt.Println(kept.count(), len(keys), sum)
}

func panics() {
	tries := map[string]func(){
		"nil":    func() { var p *node; fmt.Println(p.fill) },
		"index":  func() { a := []int{1}; i := 5; fmt.Println(a[i]) },
		"divide": func() { a, b := 1, 0; fmt.Println(a / b) },
		"type":   func() { var a interface{} = 1; fmt.Println(a.(string)) },
		"map":    func() { var m map[int]int; m[1] = 2 },
	}
	names := []string{"nil", "index", "divide", "type", "map"}
	for _, name := range names {
		func() {
			defer func() { fmt.Println(name, recover()) }()
			tries[name]()
		}()
	}
	var deep func(n int) int
	deep = func(n int) int {
		var fill [50]int
		if n == 0 {
			return fill[3]
		}
		fill[n%50] = n
		return deep(n-1) + fill[n%50]
	}
	fmt.Println(deep(20000))
}

func hashes() {
	data := make([]byte, 100001)
	rand.New(rand.NewSource(1)).Read(data)
	fmt.Printf("%x\n%x\n%x\n%x\n", md5.Sum(data), sha1.Sum(data), sha256.Sum256(data), sha512.Sum512(data))
	castagnoli := crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))
	fmt.Println(crc32.ChecksumIEEE(data), castagnoli, adler32.Checksum(data), crc64.Checksum(data, crc64.MakeTable(crc64.ECMA)))
	block, _ := aes.NewCipher(data[:32])
	gcm, _ := cipher.NewGCM(block)
	sealed := gcm.Seal(nil, data[:12], data[:5000], data[:20])
	opened, err := gcm.Open(nil, data[:12], sealed, data[:20])
	fmt.Println(hex.EncodeToString(sealed[:32]), len(sealed), bytes.Equal(opened, data[:5000]), err)
	key := ed25519.NewKeyFromSeed(data[:32])
	signature := ed25519.Sign(key, data)
	fmt.Println(base64.StdEncoding.EncodeToString(signature), ed25519.Verify(key.Public().(ed25519.PublicKey), data, signature))
	x, y := elliptic.P256().ScalarBaseMult(data[:32])
	fmt.Println(x, y)
}

func text() {
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	for i := 0; i < 3000; i++ {
		fmt.Fprintf(writer, "line %d of %s\n", i, strings.Repeat("x", i%17))
	}
	writer.Close()
	digest := sha256.Sum256(packed.Bytes())
	reader, _ := gzip.NewReader(&packed)
	plain, _ := io.ReadAll(reader)
	fmt.Println(hex.EncodeToString(digest[:]), len(plain))
	type item struct {
		Name  string             `json:"name"`
		Parts map[string]float64 `json:"parts"`
		Next  *item              `json:"next,omitempty"`
	}
	encoded, _ := json.MarshalIndent(item{"a", map[string]float64{"x": 1.5, "b": 1e30}, &item{Name: "é"}}, "", " ")
	var decoded item
	fmt.Println(string(encoded), json.Unmarshal(encoded, &decoded), decoded.Next.Name)
	fmt.Println(regexp.MustCompile(`(\w+)-(\d+)`).ReplaceAllString("ab-12 cd-34", "$2:$1"))
	template.Must(template.New("t").Parse("{{range $i, $e := .}}{{$i}}={{$e | printf \"%05d\"}} {{end}}")).Execute(&packed, []int{3, 1, 4})
	fmt.Println(packed.String(), binary.BigEndian.Uint32([]byte("abcd")), time.Unix(1700000000, 0).UTC(), time.Duration(3723e9))
}

func main() {
	numbers()
	routines()
	memory()
	panics()
	hashes()
	text()
}
