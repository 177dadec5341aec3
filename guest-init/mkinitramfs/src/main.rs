//! `mkinitramfs --init PATH --agent PATH --output FILE`: writes the guest's initramfs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const USAGE: &str = "usage: mkinitramfs --init PATH --agent PATH --output FILE";

fn main() -> Result<()> {
    let (mut init, mut agent, mut output) = (None, None, None);
    let mut args = std::env::args_os().skip(1);
    while let Some(arg) = args.next() {
        let slot = match arg.to_str() {
            Some("--init") => &mut init,
            Some("--agent") => &mut agent,
            Some("--output") => &mut output,
            _ => bail!(USAGE),
        };
        *slot = Some(PathBuf::from(args.next().context(USAGE)?));
    }
    let (Some(init), Some(agent), Some(output)) = (init, agent, output) else { bail!(USAGE) };
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let archive = supermachine_mkinitramfs::initramfs(&read(&init)?, &read(&agent)?)?;
    replace(&output, &archive).with_context(|| format!("cannot write {}", output.display()))
}

/// Whoever opens the file sees the old archive or the whole new one.
fn replace(output: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = output.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, output));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
