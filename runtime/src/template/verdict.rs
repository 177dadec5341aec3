//! Which back end a machine runs on here, asked of the vmm once and kept: its probe of KVM takes longer than a restore.

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::TemplateError;
use crate::state::write_json;

/// The file that keeps it, in the data directory.
const FILE: &str = "hypervisor.json";
/// How long it is believed: a host that was only too busy for its KVM is asked again.
const BELIEVED: Duration = Duration::from_secs(60 * 60);
/// Variables that change what the vmm chooses.
const VARIABLES: [&str; 2] = ["SUPERMACHINE_HYPERVISOR", "SUPERMACHINE_PROBE_MS"];

/// The back end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// Its name, for `--hypervisor`.
    pub kind: String,
    /// The CPU that guests see.
    pub cpu_model: String,
}

/// What the verdict was about. Another host, another boot of it, another device or vmm makes another question.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    boot: String,
    /// Device, inode, number, owner and rights of `/dev/kvm`.
    kvm: Option<[u64; 6]>,
    user: [u32; 2],
    /// Path, device, inode, size and time of the vmm's program.
    vmm: (PathBuf, [i64; 5]),
    variables: Vec<Option<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    question: Question,
    verdict: Verdict,
}

/// The verdict, from the file or from the vmm.
pub(super) fn find(data: &Path, vmm: &Path) -> Result<Verdict, TemplateError> {
    let (path, question) = (data.join(FILE), ask(vmm));
    if let Some(verdict) = kept(&path, &question) {
        return Ok(verdict);
    }
    let verdict = probe(vmm)?;
    if let Err(error) = write_json(&path, &Kept { question, verdict: verdict.clone() }) {
        log::debug!("the choice of the hypervisor is not kept: {error}");
    }
    Ok(verdict)
}

fn ask(vmm: &Path) -> Question {
    let kvm = fs::metadata("/dev/kvm").ok();
    let program = fs::metadata(vmm).ok();
    Question {
        boot: fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        kvm: kvm.map(|of| [of.dev(), of.ino(), of.rdev(), of.uid().into(), of.gid().into(), of.mode().into()]),
        user: [nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()],
        vmm: (vmm.to_owned(), program.map_or([0; 5], |of| place(&of))),
        variables: VARIABLES.iter().map(|name| env::var(name).ok()).collect(),
    }
}

fn place(of: &fs::Metadata) -> [i64; 5] {
    let number = |value: u64| value.cast_signed();
    [number(of.dev()), number(of.ino()), number(of.size()), of.mtime(), of.mtime_nsec()]
}

fn kept(path: &Path, question: &Question) -> Option<Verdict> {
    let written = fs::metadata(path).ok()?.modified().ok()?;
    // A file from the future is not believed.
    let age = SystemTime::now().duration_since(written).ok()?;
    let kept: Kept = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (age < BELIEVED && kept.question == *question && !question.boot.is_empty()).then_some(kept.verdict)
}

/// Asks the vmm, which says on the log why it passes one over.
fn probe(vmm: &Path) -> Result<Verdict, TemplateError> {
    let mut command = Command::new(vmm);
    command.arg("--probe").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = command.output().map_err(|source| TemplateError::Probe { source })?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(TemplateError::NoHypervisor { said: said.trim().to_owned() });
    }
    said.lines().for_each(|line| log::info!("{line}"));
    let printed = String::from_utf8_lossy(&output.stdout);
    let mut lines = printed.lines().map(str::to_owned);
    match (lines.next(), lines.next()) {
        (Some(kind), Some(cpu_model)) => Ok(Verdict { kind, cpu_model }),
        _ => Err(TemplateError::NoHypervisor { said: printed.into_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_kept_for_its_own_question_only() {
        let dir = tempfile::TempDir::new().expect("a directory");
        let (path, vmm) = (dir.path().join(FILE), dir.path().join("vmm"));
        fs::write(&vmm, "#!/bin/sh\necho soft\necho soft-v2\necho \"$1\" >>\"$0.asked\"\n").expect("a program");
        fs::set_permissions(&vmm, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a program");
        let asked = || fs::read_to_string(dir.path().join("vmm.asked")).map_or(0, |text| text.lines().count());
        let verdict = Verdict { kind: "soft".into(), cpu_model: "soft-v2".into() };
        for _ in 0..3 {
            assert_eq!(find(dir.path(), &vmm).expect("a verdict"), verdict);
        }
        assert_eq!(asked(), 1);
        fs::write(&path, "{}").expect("a file");
        assert_eq!(find(dir.path(), &vmm).expect("a verdict"), verdict);
        assert_eq!(asked(), 2, "a damaged file is asked for anew");
        let mut other = ask(&vmm);
        other.boot.push('x');
        assert_eq!(kept(&path, &other), None);
        let past = SystemTime::now() - BELIEVED - Duration::from_secs(1);
        fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(past)).expect("a time");
        assert_eq!(kept(&path, &ask(&vmm)), None);
        fs::write(&vmm, "#!/bin/sh\necho no back end >&2; exit 1\n").expect("a program");
        assert!(find(dir.path(), &vmm).is_err_and(|error| error.to_string().contains("no back end")));
    }
}
