//! Tests of the size check on made-up sources.

use super::*;

fn function_of(lines: usize) -> String {
    format!("fn long() {{\n{}}}\n", "    work();\n".repeat(lines - 2))
}

fn check(path: &str, text: &str, list: &str) -> Report {
    let mut exceptions = Exceptions::parse(list).unwrap();
    let mut report = Report::default();
    report.add(Path::new(path), text, &mut exceptions).unwrap();
    report.offences.extend(exceptions.unused().map(|name| Offence::Unneeded { name: name.to_owned() }));
    report
}

fn long(name: &str, lines: usize, limit: usize, excusable: bool) -> Offence {
    Offence::TooLong { name: name.to_owned(), line: 1, lines, limit, excusable }
}

#[test]
fn names_and_lengths_of_functions() {
    let text = "/// Doc.\n#[inline]\nfn a() {}\nimpl<T> X<T> {\n    fn b() {\n        fn c() {}\n    }\n}\n\
                trait Y {\n    fn d();\n    fn e() {\n    }\n}\n";
    let found: Vec<_> = functions::in_source(text).unwrap().into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    let expected = [("a", 3, 1), ("X::b", 5, 3), ("c", 6, 1), ("Y::e", 11, 2)];
    assert_eq!(found, expected.map(|(name, line, lines)| (name.to_owned(), line, lines)));
}

#[test]
fn limits_of_functions() {
    assert_eq!(check("a.rs", &function_of(80), "").offences, []);
    assert_eq!(check("a.rs", &function_of(81), "").offences, [long("a.rs::long", 81, 80, true)]);
    assert_eq!(check("a.rs", &function_of(99), "a.rs::long a table").offences, []);
    let offences = check("a.rs", &function_of(100), "a.rs::long a table").offences;
    assert_eq!(offences[0], long("a.rs::long", 100, 99, false));
}

#[test]
fn limits_of_files() {
    let blank = |lines: usize| "\n".repeat(lines);
    assert_eq!(check("a.rs", &blank(600), "").offences, []);
    assert_eq!(check("a.rs", &blank(601), "").offences, [long("a.rs", 601, 600, true)]);
    assert_eq!(check("a.rs", &blank(999), "a.rs one table").offences, []);
    assert_eq!(check("x/tests.rs", &blank(999), "").offences, []);
    assert_eq!(check("x/tests/y.rs", &blank(1000), "").offences, [long("x/tests/y.rs", 1000, 999, false)]);
}

#[test]
fn exceptions_need_reasons_and_use() {
    assert!(matches!(Exceptions::parse("# fine\n\na.rs\n"), Err(SizeError::NoReason { line }) if line == "a.rs"));
    assert_eq!(check("a.rs", "", "a.rs why").offences, [Offence::Unneeded { name: "a.rs".to_owned() }]);
}

#[test]
fn figures_are_sorted_out() {
    let mut report = check("a.rs", &function_of(81), "a.rs::long a table");
    let printed: Vec<_> = report.figures().iter().map(ToString::to_string).collect();
    let expected = [
        "size.file.median 81 lines -",
        "size.file.longest 81 lines <=999",
        "size.function.median 81 lines -",
        "size.function.longest 81 lines <=99",
        "size.exceptions 1 entries -",
    ];
    assert_eq!(printed, expected);
}

#[test]
fn a_file_that_is_no_rust_is_an_error() {
    let mut report = Report::default();
    let result = report.add(Path::new("a.rs"), "\nfn {", &mut Exceptions::default());
    assert!(matches!(result, Err(SizeError::Parse { line: 2, .. })));
}
