//! Compares the traces of one boot on the soft CPU and on QEMU. `conformance/lockstep` starts both and this.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod command {
    use std::collections::{BTreeMap, HashSet};
    use std::fs::File;
    use std::io::BufReader;
    use std::path::PathBuf;
    use std::process::ExitCode;

    use anyhow::Context;
    use clap::Parser;
    use supermachine_soft_oracle::lockstep::calls::Calls;
    use supermachine_soft_oracle::lockstep::streams::{Interrupts, Stream, qemu, soft};
    use supermachine_soft_oracle::lockstep::symbols::Symbols;
    use supermachine_soft_oracle::lockstep::walk::{Limits, Parting, Step, Walk};

    const BUFFER: usize = 1 << 20;

    /// Compares the traces of one boot on the soft CPU and on QEMU.
    #[derive(Debug, Parser)]
    pub(super) struct Arguments {
        /// The soft CPU's trace.
        #[arg(long)]
        soft: PathBuf,
        /// QEMU's log.
        #[arg(long)]
        qemu: PathBuf,
        /// System.map of the kernel.
        #[arg(long)]
        symbols: PathBuf,
        /// Address where both traces begin, hexadecimal.
        #[arg(long, value_parser = |s: &str| u64::from_str_radix(s.trim_start_matches("0x"), 16))]
        from: u64,
        /// Stop after so many instructions in common.
        #[arg(long)]
        instructions: u64,
        /// Names of functions that may differ, one a line, `#` begins a remark, `*` at the end stands for anything.
        #[arg(long)]
        ignore: PathBuf,
        /// Stop after so many differences in other functions.
        #[arg(long, default_value_t = 1)]
        show: usize,
    }

    struct Ignored {
        names: HashSet<String>,
        prefixes: Vec<String>,
    }

    impl Ignored {
        fn read(text: &str) -> Self {
            let words = text.lines().filter_map(|line| line.split('#').next()).map(str::trim).filter(|w| !w.is_empty());
            let (prefixes, names): (Vec<&str>, _) = words.partition(|w| w.ends_with('*'));
            let prefixes = prefixes.iter().map(|p| p.trim_end_matches('*').to_owned()).collect();
            Ignored { names: names.iter().map(|&n: &&str| n.to_owned()).collect(), prefixes }
        }

        fn holds(&self, name: &str) -> bool {
            self.names.contains(name) || self.prefixes.iter().any(|p| name.starts_with(p.as_str()))
        }
    }

    fn print(parting: &Parting, symbols: &Symbols) {
        println!("PARTED after {} instructions in common", parting.after);
        for (title, places) in [("both", &parting.common), ("soft", &parting.soft), ("qemu", &parting.qemu)] {
            for &pc in places {
                println!("  {title} {}", symbols.describe(pc));
            }
        }
        let calls: Vec<_> = parting.calls.iter().filter_map(|&pc| symbols.function(pc)).collect();
        println!("  called from {}", calls.join(" < "));
        match parting.met {
            Some((pc, s, q)) => {
                println!("  met again at {} after {s} blocks of soft, {q} instructions of qemu", symbols.describe(pc));
            }
            None => println!("  for good: nothing in common in what follows"),
        }
    }

    pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
        let text =
            |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()));
        let symbols = Symbols::parse(&text(&arguments.symbols)?);
        let ignored = Ignored::read(&text(&arguments.ignore)?);
        let (entries, all) = symbols.entries();
        let interrupts = Interrupts::new(entries, all, symbols.address("native_irq_return_iret"));
        let open = |path: &PathBuf| -> anyhow::Result<_> {
            let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
            Ok(BufReader::with_capacity(BUFFER, file))
        };
        let from = arguments.from;
        let soft = Stream::new(soft(open(&arguments.soft)?, from), interrupts.clone());
        let qemu = Stream::new(qemu(open(&arguments.qemu)?, from), interrupts);
        let mut walk = Walk::new(soft, qemu, Limits::default(), Calls::new(symbols.starts(), symbols.thunks()));
        let (mut shown, mut allowed) = (0, BTreeMap::<String, (u64, u64)>::new());
        let parted = loop {
            let parting = match walk.next(arguments.instructions) {
                Step::Enough => break false,
                Step::End => {
                    println!("a trace ended");
                    break false;
                }
                Step::Parted(p) => p,
            };
            // Where they part, and what called that.
            let places = parting.common.last().into_iter().chain(parting.soft.first()).chain(parting.qemu.first());
            let mut names = places.chain(&parting.calls).filter_map(|&pc| symbols.function(pc));
            let reason = names.find(|name| ignored.holds(name)).map(str::to_owned);
            let lost = parting.met.is_none();
            if let (Some(name), false) = (&reason, lost) {
                let entry = allowed.entry(name.clone()).or_default();
                *entry = (entry.0 + 1, entry.1.max(parting.after));
                continue;
            }
            shown += 1;
            print(&parting, &symbols);
            if lost || shown >= arguments.show {
                break true;
            }
        };
        for (name, (count, last)) in &allowed {
            println!("allowed: {count} in {name}, the last after {last}");
        }
        let (soft, qemu) = walk.interrupts();
        println!("left out: interrupts of soft {soft}, of qemu {qemu}");
        println!("common {} instructions, {shown} differences", walk.common);
        Ok(if parted || shown > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> anyhow::Result<std::process::ExitCode> {
    command::run(&clap::Parser::parse())
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    eprintln!("soft-lockstep runs on x86-64 Linux only");
}
