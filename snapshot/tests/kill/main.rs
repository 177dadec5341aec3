//! A baker that is killed between any two of its system calls: what it leaves is never taken for a template, never in the way
//! of the next baker, and gone afterwards.

#[cfg(target_os = "linux")]
mod baker;
#[path = "../store/common.rs"]
#[cfg(target_os = "linux")]
mod common;
#[cfg(target_os = "linux")]
mod sweep;

#[cfg(target_os = "linux")]
fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [_, "--baker", dir] => baker::bake_traced(dir.as_ref()),
        [_, .., "--list"] => println!("kill: test"),
        _ => sweep::run(),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("skipped: a system call is traced as Linux does it");
}
