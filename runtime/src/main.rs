//! `supermachine-runtime`: the OCI runtime's command line; see `supermachine_runtime`.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use clap::Parser;
    use clap::error::ErrorKind;
    use supermachine_runtime::cli::Cli;
    use supermachine_runtime::{logging, verbs};

    supermachine_vmm_api::trace::mark("runtime", "program entered");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Where not even that can be printed there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
                ErrorKind::InvalidSubcommand => 3,
                _ => 1,
            });
        }
    };
    if let Err(error) = logging::init(cli.globals.log.as_deref(), cli.globals.log_format, cli.globals.debug) {
        eprintln!("--log: {error}");
        return ExitCode::FAILURE;
    }
    let (prefix, status) = (cli.verb.error_prefix(), cli.verb.failure_status());
    match cli.verb.run(&cli.globals) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let has_file = cli.globals.log.is_some();
            logging::fatal(&format!("{prefix}{}", verbs::chain(&error)), has_file);
            ExitCode::from(status)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("supermachine-runtime: only Linux is supported so far");
    ExitCode::FAILURE
}
