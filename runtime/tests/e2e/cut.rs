//! A `create` that is killed between its system calls.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::harness::{Place, text};

/// Points at which it is killed once it has begun to make its control group, and before that.
const POINTS: usize = 40;
const POINTS_BEFORE: usize = 10;

#[test]
fn a_create_that_is_killed_between_its_system_calls_can_be_deleted() {
    let place = Place::new();
    let mut groups = Vec::new();
    let bundle = place.bundle(&["sleep", "1000"], |config| {
        groups = folders(config["linux"]["cgroupsPath"].as_str().expect("a path"));
    });
    // The images are in the store from here on.
    place.leave(&["create", "-b", text(&bundle), "c"]);
    place.good(&["delete", "--force", "c"]);
    let has_group = || groups.iter().any(|folder| folder.exists());
    let mut whole = Traced::create(&place, &bundle);
    let before = whole.steps_until(has_group);
    let after = whole.steps_until(|| false);
    whole.kill();
    place.good(&["delete", "--force", "c"]);
    place.assert_clean();
    assert!(before > 100 && after > 100, "{before} and {after} system calls");
    for point in 0..POINTS_BEFORE {
        let mut create = Traced::create(&place, &bundle);
        let _ended = (0..before * point / POINTS_BEFORE).all(|_| create.step());
        check(&place, create, &format!("before its group: {point}"));
    }
    for point in 0..POINTS {
        let mut create = Traced::create(&place, &bundle);
        create.steps_until(has_group);
        // Close together at first, where the group is made and the machine put in it.
        let _ended = (0..after * point * point / (POINTS * POINTS)).all(|_| create.step());
        check(&place, create, &format!("with its group: {point}"));
    }
}

/// Kills it; what it leaves can be deleted, and then nothing is left.
fn check(place: &Place, create: Traced, point: &str) {
    create.kill();
    let done = place.call(&["delete", "--force", "c"]);
    assert_eq!(done.status, 0, "{point}: {}", done.stderr);
    let groups = place.cgroups();
    assert_eq!(groups, Vec::<PathBuf>::new(), "{point}: control groups are left");
    place.assert_clean();
}

/// Where the control group `path` may be, in one hierarchy or in several.
fn folders(path: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let name = path.trim_start_matches('/');
    let below = std::fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path().join(name));
    below.chain([top.join(name)]).collect()
}

/// A `create` that stands still between two system calls, or has ended.
struct Traced {
    child: Child,
    running: bool,
}

impl Traced {
    /// Starts it; it has not done anything yet.
    fn create(place: &Place, bundle: &Path) -> Self {
        let runtime = place.command(&["create", "--bundle", text(bundle), "c"]);
        let mut command = Command::new("sh");
        command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(runtime.get_program()).args(runtime.get_args());
        command.envs(runtime.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = std::fs::File::create(place.path("out")).expect("a file");
        command.stdin(std::process::Stdio::null()).stdout(output.try_clone().expect("a copy")).stderr(output);
        let traced = Self { child: command.spawn().expect("starts"), running: true };
        let stopped = waitpid(traced.pid(), Some(WaitPidFlag::WUNTRACED)).expect("waits");
        assert!(matches!(stopped, WaitStatus::Stopped(_, Signal::SIGSTOP)), "{stopped:?}");
        ptrace::seize(traced.pid(), ptrace::Options::PTRACE_O_TRACESYSGOOD).expect("traces");
        let seized = waitpid(traced.pid(), None).expect("waits");
        assert!(matches!(seized, WaitStatus::PtraceEvent(..)), "{seized:?}");
        nix::sys::signal::kill(traced.pid(), Signal::SIGCONT).expect("goes on");
        traced
    }

    /// Lets it go on to the next begin or end of a system call; false at its end.
    fn step(&mut self) -> bool {
        let mut signal = None;
        while self.running {
            ptrace::syscall(self.pid(), signal).expect("goes on");
            match waitpid(self.pid(), None).expect("waits") {
                WaitStatus::PtraceSyscall(_) => return true,
                WaitStatus::Stopped(_, other) => signal = Some(other),
                WaitStatus::PtraceEvent(..) => signal = None,
                WaitStatus::Exited(_, 0) => self.running = false,
                status => panic!("the create failed: {status:?}"),
            }
        }
        false
    }

    /// Steps until something is so, or it has ended; gives their number.
    fn steps_until(&mut self, so: impl Fn() -> bool) -> usize {
        let mut steps = 0;
        while !so() && self.step() {
            steps += 1;
        }
        steps
    }

    fn kill(mut self) {
        if self.running {
            self.child.kill().expect("kills");
            self.child.wait().expect("ends");
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}
