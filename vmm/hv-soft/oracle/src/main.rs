//! Compares single instructions on the host CPU and on the soft back end.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod command {
    use std::process::ExitCode;
    use std::time::{Duration, Instant};

    use clap::Parser;
    use supermachine_soft_oracle::forms::{CpuModel, catalogue};
    use supermachine_soft_oracle::layout::BATCH;
    use supermachine_soft_oracle::native::NativeError;
    use supermachine_soft_oracle::report;
    use supermachine_soft_oracle::session::{Mismatch, Plan, Session};
    use supermachine_soft_oracle::soft::Soft;

    /// Runs random single instructions natively and on the soft back end and compares all they change.
    #[derive(Debug, Parser)]
    #[command(name = "soft-oracle")]
    pub(super) struct Arguments {
        /// Stop after this time.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Stop after this many cases.
        #[arg(long)]
        cases: Option<u64>,
        /// Seed of the random numbers (decimal); default: another one each time.
        #[arg(long)]
        seed: Option<u64>,
        /// Only forms whose name contains this, for example `Add_rm8` or `psh`.
        #[arg(long, default_value = "")]
        only: String,
        /// CPU model.
        #[arg(long, value_enum, default_value = "v2")]
        model: CpuModel,
        /// Run blocks: a form's instruction and up to two simple ones after it, decoded together.
        #[arg(long)]
        blocks: bool,
        /// Print counts for every form, and the forms left out with the reason.
        #[arg(long)]
        report: bool,
        /// Print at most this many mismatches.
        #[arg(long, default_value_t = 20)]
        show: usize,
        /// Print at most this many mismatches of one form.
        #[arg(long, default_value_t = 2)]
        show_per_form: u64,
        /// Leave a form out after this many mismatches.
        #[arg(long, default_value_t = 50)]
        give_up_after: u64,
        /// Run only this batch.
        #[arg(long)]
        batch: Option<u64>,
        /// Show only this case of the batch.
        #[arg(long, requires = "batch")]
        index: Option<usize>,
    }

    pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
        let (forms, left) = catalogue(arguments.model, &arguments.only);
        anyhow::ensure!(!forms.is_empty(), "no form's name contains {:?}", arguments.only);
        let random = || Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()) << 20 ^ now();
        let seed = arguments.seed.unwrap_or_else(random) & 0xffff_ffff;
        println!("seed {seed}");
        let command = command_line(arguments, seed);
        let give_up_after = if arguments.batch.is_some() { u64::MAX } else { arguments.give_up_after };
        let plan = Plan { seed, give_up_after, follow: arguments.blocks };
        let mut session = Session::new(Soft::new(arguments.model, arguments.blocks)?, forms, arguments.model, plan)?;
        let start = Instant::now();
        let limit = Duration::from_secs(arguments.seconds);
        let batches = arguments.cases.map_or(u64::MAX, |cases| cases.div_ceil(BATCH as u64));
        let (first, end) = arguments.batch.map_or((0, batches), |batch| (batch, batch + 1));
        let (mut shown, mut deaths) = (0, 0);
        for batch in first..end {
            match session.batch(batch) {
                Ok(found) => shown += show(arguments, &session, &found, &command, shown),
                Err(error @ NativeError::Died { .. }) => {
                    deaths += 1;
                    println!("batch {batch}: {error}");
                    anyhow::ensure!(deaths < 10, "the native child keeps dying");
                }
                Err(error) => return Err(error.into()),
            }
            if start.elapsed() >= limit {
                break;
            }
        }
        if arguments.report {
            print!("{}", report::coverage(session.counts(), &left));
        }
        print!("{}", report::figures(session.counts(), &left, start.elapsed()));
        println!("oracle-native-deaths {deaths} deaths =0");
        let bad = deaths > 0 || session.counts().any(|(_, count)| count.mismatches > 0);
        Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn now() -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64)
    }

    fn command_line(arguments: &Arguments, seed: u64) -> String {
        let model = if arguments.model == CpuModel::V1 { "v1" } else { "v2" };
        let only = if arguments.only.is_empty() { String::new() } else { format!(" --only {}", arguments.only) };
        let blocks = if arguments.blocks { " --blocks" } else { "" };
        format!("soft-oracle --model {model} --seed {seed}{blocks}{only}")
    }

    /// Prints what may be printed of `found`; gives how many.
    fn show(arguments: &Arguments, session: &Session<Soft>, found: &[Mismatch], command: &str, shown: usize) -> usize {
        let mut printed = 0;
        for one in found {
            let Some((form, count)) = session.counts().nth(one.case.form) else { continue };
            let wanted = arguments.index.is_none_or(|index| index == one.index);
            let few = count.mismatches <= arguments.show_per_form || arguments.batch.is_some();
            if wanted && few && shown + printed < arguments.show {
                printed += 1;
                print!("{}", report::mismatch(one, form, command));
            }
        }
        printed
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn main() -> anyhow::Result<std::process::ExitCode> {
    command::run(&clap::Parser::parse())
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn main() {
    eprintln!("soft-oracle needs an x86-64 Linux host");
}
