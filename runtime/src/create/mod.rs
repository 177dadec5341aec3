//! `create` from a bundle to a container that waits for its start. Whatever fails, nothing is left.

mod restore;
mod source;
mod undo;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Instant, SystemTime};

use nix::sys::signal::Signal;
use supermachine_agent_protocol::ErrorCode;
use supermachine_agent_protocol::container::{Container, Namespace, TemplatePoint};
use supermachine_layers::store::StoreError;
use supermachine_lock::Mode;
use supermachine_vmm_api::{Client, ClientError, Create, Reply, Request, trace};

use crate::bundle::{Bundle, BundleError};
use crate::checkpoint::CheckpointError;
use crate::console::{Console, ConsoleError};
use crate::control::{SOFTWARE, WORK_MAX};
use crate::host::cgroup::{Cgroup, CgroupError, Intent, Limits};
use crate::host::files::{Files, FilesError};
use crate::host::hooks::{self, HookError};
use crate::host::launch::{Launch, LaunchError, Launched, Session};
use crate::host::process;
use crate::paths::{self, Parts, PathError};
use crate::plan::{
    self, GuestArch, HostHooks, HostNamespace, HostVolume, MachineSource, Plan, PlanError, PlanSettings,
};
use crate::rootfs::{self, RootfsError};
use crate::state::{self, Dir, ExecBase, Record, Root, StateError, Status, Vmm, VolumeRecord};
use crate::template;
use crate::template::image::Image;
use crate::time::rfc3339_nanos;

pub use restore::restore;
use source::{Origin, Source};
use undo::Undo;

/// Number of the control connection in the vmm.
const CONTROL_FD: i32 = 3;
/// Number of the sign of life in the vmm.
const ALIVE_FD: i32 = 4;
/// Number of what keeps the machine's template from being removed, in the vmm.
const TEMPLATE_FD: i32 = 5;
/// Number in the vmm of what keeps its images in the store; it is never used, only open.
const HOLD_FD: i32 = 6;
/// Number of what keeps the machine's image template from being removed, in the vmm.
const IMAGE_FD: i32 = 7;
/// Number of the device of the container's files, in the vmm.
const VIEW_FD: i32 = 8;
/// How much of the vmm's log goes into an error.
const LAST_WORDS_MAX: usize = 600;

/// What is to be created.
#[derive(Debug)]
pub struct Order<'a> {
    /// Id of the container.
    pub id: &'a str,
    /// Directory of its bundle.
    pub bundle: &'a Path,
    /// Another configuration than the bundle's.
    pub config: Option<&'a Path>,
    /// Whose terminal it has.
    pub terminal: Terminal<'a>,
    /// Where its process id goes.
    pub pid_file: Option<&'a Path>,
    /// Whether control groups are named as systemd does.
    pub systemd_cgroup: bool,
    /// Whether the caller is not root.
    pub rootless: bool,
}

/// Whose terminal a container has, if it has one.
#[derive(Debug, Clone, Copy)]
pub enum Terminal<'a> {
    /// One of its own, whose master goes to the socket.
    Own(Option<&'a Path>),
    /// The caller's.
    Callers,
}

/// A container that waits for its start.
#[derive(Debug)]
pub struct Created {
    /// Its directory.
    pub dir: Dir,
    /// Its record.
    pub record: Record,
    /// Its machine, a child of this process.
    pub machine: Launched,
    lock: File,
}

impl Created {
    /// Lets other verbs go on.
    pub fn unlock(self) -> (Dir, Record, Launched) {
        drop(self.lock);
        (self.dir, self.record, self.machine)
    }
}

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The bundle cannot be read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle cannot be done.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// What it has of the host.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// The root file system.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// The layer store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The terminal.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// Something is not installed.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The control group.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The vmm's process.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A hook.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The image of a checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The image's first process has a terminal and the bundle's has none, or the other way round.
    #[error("process.terminal: the container that was saved has {}", if *saved { "a terminal" } else { "no terminal" })]
    Terminal {
        /// Whether the saved one has one.
        saved: bool,
    },
    /// The guest did not build the container.
    #[error("unable to start container process: {0}")]
    Refused(String),
    /// The template is none for this vmm.
    #[error("the machine cannot go on from its template: {0}")]
    BadSnapshot(String),
    /// The vmm ended.
    #[error("the container's machine ended: {0}")]
    Ended(String),
    /// The conversation with the vmm broke.
    #[error("control connection of the container's machine")]
    Client(#[source] ClientError),
    /// Another step.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> CreateError {
    move |source| CreateError::Io { what, source }
}

/// Creates a container.
pub fn create(root: &Root, order: &Order<'_>) -> Result<Created, CreateError> {
    let bundle = Bundle::read(order.bundle, order.config)?;
    let plan = planned(order, &bundle)?;
    let console = match order.terminal {
        Terminal::Own(socket) => Console::detached(plan.container.process.tty, socket)?,
        Terminal::Callers => None,
    };
    let (created, undo) = built(root, order, &bundle, plan, console)?;
    undo.forget();
    Ok(created)
}

/// Makes the `pre-exec` template for the bundle's kind, by a container that is never started. The host has no part in it: its hooks
/// are not run, its namespaces not joined.
pub fn bake(root: &Root, order: &Order<'_>) -> Result<(), CreateError> {
    let bundle = Bundle::read(order.bundle, order.config)?;
    let mut plan = planned(order, &bundle)?;
    plan.source = Some(MachineSource::Image(TemplatePoint::PreExec));
    (plan.host.hooks, plan.host.cgroups_path) = (HostHooks::default(), None);
    plan.host.namespaces.clear();
    let (_created, undo) = built(root, order, &bundle, plan, None)?;
    undo.run();
    Ok(())
}

/// Builds the container of a plan; gives what takes it back as well. Whatever fails, nothing is left.
fn built(
    root: &Root,
    order: &Order<'_>,
    bundle: &Bundle,
    mut plan: Plan,
    console: Option<Console>,
) -> Result<(Created, Undo), CreateError> {
    let parts = Parts::find()?;
    let files = Files::of_binds(&mut plan)?;
    plan.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let (dir, lock) = root.make(order.id)?;
    let mut undo = Undo::new(dir.clone());
    let building = Building { order, bundle, parts: &parts, dir: &dir };
    match building.build(plan, files, console, &mut undo) {
        Ok((record, machine)) => Ok((Created { dir, record, machine, lock }, undo)),
        Err(error) => {
            undo.run();
            Err(error)
        }
    }
}

fn planned(order: &Order<'_>, bundle: &Bundle) -> Result<Plan, PlanError> {
    let settings = PlanSettings {
        id: order.id.to_owned(),
        systemd_cgroup: order.systemd_cgroup,
        rootless: order.rootless,
        arch: GuestArch::X86_64,
        host_memory_mib: plan::host_memory_mib(),
    };
    plan::plan(bundle, &settings)
}

/// What a machine answers.
type Answer = Result<Reply, ClientError>;

/// What stays the same while a container is built.
struct Building<'a> {
    order: &'a Order<'a>,
    bundle: &'a Bundle,
    parts: &'a Parts,
    dir: &'a Dir,
}

/// What a container has of the host.
struct Host<'a> {
    files: &'a Files,
    cgroup: &'a Cgroup,
    alive: &'a File,
    hold: BorrowedFd<'a>,
}

impl Building<'_> {
    fn build(
        &self,
        mut plan: Plan,
        mut files: Files,
        console: Option<Console>,
        undo: &mut Undo,
    ) -> Result<(Record, Launched), CreateError> {
        // Ours until the container is made: one being made is alive.
        let alive = supermachine_lock::open(&self.dir.join("alive")).map_err(io_error("make the sign of life"))?;
        supermachine_lock::hold(&alive, Mode::Alone).map_err(io_error("lock the sign of life"))?;
        trace::mark("runtime", "planned");
        let store = rootfs::store()?;
        let hold = store.hold(&format!("container {}", self.order.id))?;
        let mut record = self.record(&plan, hold.path());
        self.dir.write_record(&record)?;
        self.write_exec_base(&plan)?;
        let begin = Instant::now();
        let verdict = template::verdict(self.parts);
        let hypervisor = verdict.as_ref().ok().map(|verdict| verdict.kind.as_str());
        let images = rootfs::images(&store, &plan.rootfs, plan.layers.as_deref(), hypervisor, &hold)?;
        let kept = hold.as_fd().try_clone_to_owned().map_err(io_error("keep the images"))?;
        undo.hold = Some(hold);
        log::debug!("{} us: root file system in the store", begin.elapsed().as_micros());
        trace::mark("runtime", "layers ready");
        files.add_layers(&images)?;
        files.add_volumes(&plan.volumes)?;
        if let Some(mib) = plan.root_disk_mib {
            files.add_disk(&paths::data_dir(), mib)?;
        }
        let cgroup = self.cgroup(&plan, &mut record)?;
        undo.cgroup = Some(cgroup.clone());
        let host = Host { files: &files, cgroup: &cgroup, alive: &alive, hold: kept.as_fd() };
        let source = Source::find(self.parts, verdict, &mut plan, &images);
        trace::mark("runtime", "template found");
        let machine = self.start_machine((&mut plan, source), &host, console, &mut record, undo)?;
        drop(files);
        log::debug!("{} ms: container built in its guest", begin.elapsed().as_millis());
        trace::mark("runtime", "container created");
        self.complete(&cgroup, &mut record, &machine)?;
        Ok((record, machine))
    }

    /// The last steps: limits, so that the boot is not slowed down, the record, the pid file.
    fn complete(&self, cgroup: &Cgroup, record: &mut Record, machine: &Launched) -> Result<(), CreateError> {
        let limits = plan::host_files(&record.resources)?;
        cgroup.set(&Limits { resources: &record.resources, unified: &limits, guest_ram: record.memory_mib << 20 })?;
        record.complete = true;
        self.dir.write_record(record)?;
        if let Some(path) = self.order.pid_file {
            state::write_whole(path, machine.pid.to_string().as_bytes(), 0o644)
                .map_err(io_error("write the pid file"))?;
        }
        Ok(())
    }

    fn volume_records(plan: &Plan) -> Vec<VolumeRecord> {
        let record = |volume: &HostVolume| VolumeRecord { path: volume.source.clone(), read_only: volume.read_only };
        plan.volumes.iter().map(record).collect()
    }

    /// Makes the control group. The record has it before it is there: its maker may be killed at any moment.
    fn cgroup(&self, plan: &Plan, record: &mut Record) -> Result<Cgroup, CreateError> {
        let intent = Intent::new(plan.host.cgroups_path.as_deref(), self.order.id)?;
        record.cgroup = serde_json::to_value(intent.promised()).unwrap_or_default();
        self.dir.write_record(record)?;
        let cgroup = intent.make()?;
        // Written down with the machine's number.
        record.cgroup = serde_json::to_value(&cgroup).unwrap_or_default();
        Ok(cgroup)
    }

    /// Starts the machine from its source and has the container built in it, or taken over.
    fn start_machine(
        &self,
        (plan, mut source): (&mut Plan, Source),
        host: &Host<'_>,
        console: Option<Console>,
        record: &mut Record,
        undo: &mut Undo,
    ) -> Result<Launched, CreateError> {
        // Hooks of the host know one machine; another in its place would be strange to them.
        let replaceable = !plan.host.hooks.before_start();
        loop {
            let origin = source.origin();
            let (control, machine) = self.launch(plan, origin, console.as_ref(), host)?;
            trace::mark("runtime", "machine launched");
            undo.machine = Some(machine.pid);
            let started = process::start_time(machine.pid).unwrap_or_default();
            record.vmm = Some(Vmm { pid: machine.pid, started });
            record.template = source.key();
            self.dir.write_record(record)?;
            self.host_hooks(plan, record, undo)?;
            plan.container.hook_state = record.hook_state(Status::Creating);
            let answer = match (origin, &source.image) {
                (Origin::Image(..), Some(image)) => self.adopt_in_guest(control, image, host.files),
                (_, image) => self.create_in_guest(control, plan.container.clone(), image.as_ref(), host.files),
            };
            let made = answer.and_then(|answer| self.created(answer, source.image.is_some() && replaceable));
            let Err(error) = made else {
                console.map_or(Ok(()), Console::send)?;
                return Ok(machine);
            };
            let from_template = !matches!(origin, Origin::Boot);
            let signal = undo.end_machine().filter(|_| from_template);
            match without_memory(error, signal) {
                CreateError::BadSnapshot(why) if from_template && replaceable => source.fall_back(plan, &why),
                error => return Err(error),
            }
        }
    }

    fn record(&self, plan: &Plan, layers_hold: &Path) -> Record {
        Record {
            version: state::VERSION,
            id: self.order.id.to_owned(),
            oci_version: plan.oci_version.clone(),
            bundle: self.bundle.dir.clone(),
            rootfs: plan.rootfs.clone(),
            annotations: plan.annotations.clone(),
            created: rfc3339_nanos(SystemTime::now()),
            vmm: None,
            template: None,
            complete: false,
            memory_mib: plan.vm.memory_mib,
            has_volumes: plan.volumes.iter().any(|volume| !volume.read_only),
            volumes: Self::volume_records(plan),
            terminal: plan.terminal,
            cgroup: serde_json::Value::Null,
            resources: plan.host.resources.clone().unwrap_or_default(),
            layers_hold: layers_hold.to_owned(),
            poststart: plan.host.hooks.poststart.clone(),
            poststop: plan.host.hooks.poststop.clone(),
            warnings: plan.warnings.clone(),
        }
    }

    fn write_exec_base(&self, plan: &Plan) -> Result<(), CreateError> {
        let Some(process) = self.bundle.spec.process().clone() else { return Ok(()) };
        let attributes = plan.container.process.attributes.clone();
        Ok(self.dir.write_exec_base(&ExecBase { process, attributes })?)
    }

    /// Starts the vmm; gives our end of its control connection too.
    fn launch(
        &self,
        plan: &Plan,
        origin: Origin<'_>,
        console: Option<&Console>,
        host: &Host<'_>,
    ) -> Result<(UnixStream, Launched), CreateError> {
        let (control, theirs) = UnixStream::pair().map_err(io_error("make the control connection"))?;
        let mut keep = vec![(theirs.as_fd(), CONTROL_FD), (host.alive.as_fd(), ALIVE_FD), (host.hold, HOLD_FD)];
        if let Origin::Template(ready) | Origin::Image(ready, _) = origin {
            keep.push((ready.template.guard().as_fd(), TEMPLATE_FD));
        }
        if let Origin::Image(_, image) = origin {
            keep.push((image.guard().as_fd(), IMAGE_FD));
        }
        let view = view_device(&plan.host.namespaces);
        if let Some(view) = &view {
            keep.push((view.as_fd(), VIEW_FD));
        }
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let stdio = match console {
            Some(console) => [console.slave.as_fd(); 3],
            None => [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        };
        let session = match (console, plan.terminal) {
            (Some(_), _) => Session::NewWithTerminal,
            (None, true) => Session::Inherit,
            (None, false) => Session::New,
        };
        let launch = Launch {
            program: &self.parts.vmm,
            args: &self.vmm_args(plan, origin, view.is_some()),
            cwd: self.dir.path(),
            stdio,
            keep: &keep,
            session,
            cgroup: Some(host.cgroup),
            namespaces: &plan.host.namespaces,
            view: view.as_ref().map(AsFd::as_fd),
            oom_score_adj: None,
        };
        let machine = launch.start()?;
        Ok((control, machine))
    }

    /// The sockets and files of the state directory are named relative to it: it is the vmm's working directory, and
    /// its own path may be long.
    fn vmm_args(&self, plan: &Plan, origin: Origin<'_>, has_view: bool) -> Vec<OsString> {
        let number = |value: &dyn ToString| OsString::from(value.to_string());
        let mut args = Vec::new();
        let mut option = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
        option("--control", "control".into());
        option("--control-fd", number(&CONTROL_FD));
        option("--log", "vmm.log".into());
        if has_view {
            option("--view-fd", number(&VIEW_FD));
        }
        match origin {
            Origin::Template(base) | Origin::Image(base, _) => {
                let base_dir = base.template.path();
                if let Origin::Image(_, image) = origin {
                    option("--restore", image.path().into());
                    option("--base", base_dir.into());
                } else {
                    option("--restore", base_dir.into());
                }
                option("--hypervisor", (&base.hypervisor).into());
                args.extend(["--probed", "--keep"].map(OsString::from));
                return args;
            }
            Origin::Checkpoint(snapshot) => {
                option("--restore", snapshot.into());
                return args;
            }
            Origin::Boot => {}
        }
        option("--kernel", self.parts.kernel.clone().into());
        option("--initramfs", self.parts.initramfs.clone().into());
        option("--memory", format!("{}M", plan.vm.memory_mib).into());
        option("--vcpus", number(&plan.vm.vcpus));
        args.push("--container".into());
        args
    }

    fn host_hooks(&self, plan: &Plan, record: &Record, undo: &mut Undo) -> Result<(), CreateError> {
        let state = record.hook_state(Status::Creating);
        undo.poststop = Some((record.poststop.clone(), record.hook_state(Status::Stopped)));
        hooks::run_all("prestart", &plan.host.hooks.prestart, &state)?;
        hooks::run_all("createRuntime", &plan.host.hooks.create_runtime, &state)?;
        Ok(())
    }

    /// A client of the machine, which has the container's files.
    fn client(&self, control: UnixStream, files: &Files) -> Result<Client, CreateError> {
        control.set_read_timeout(Some(WORK_MAX)).map_err(io_error("set a timeout"))?;
        let mut client = Client::from_stream(control, SOFTWARE).map_err(|error| self.failed(error))?;
        client.files(&files.open()).map_err(|error| self.failed(error))?;
        Ok(client)
    }

    fn create_in_guest(
        &self,
        control: UnixStream,
        container: Container,
        image: Option<&Image>,
        files: &Files,
    ) -> Result<Answer, CreateError> {
        let mut client = self.client(control, files)?;
        let create = Create { container, files: files.names(), template: image.and_then(Image::order) };
        Ok(client.request(&Request::Create(Box::new(create))))
    }

    /// Has the container of an image template become this one.
    fn adopt_in_guest(&self, control: UnixStream, image: &Image, files: &Files) -> Result<Answer, CreateError> {
        Ok(self.client(control, files)?.request(&Request::Adopt(Box::new(image.adopt(files.names())))))
    }

    /// What an answer means. What the guest refuses for another reason than the container's program may be laid to the image
    /// template that it is in, or is to be in.
    fn created(&self, answer: Answer, may_be_templates: bool) -> Result<(), CreateError> {
        match answer {
            Ok(Reply::Created { .. }) => Ok(()),
            Ok(other) => Err(self.failed(ClientError::Unexpected(Box::new(other)))),
            Err(ClientError::Refused(reply)) if may_be_templates && !reply.code.is_of_program() => {
                Err(CreateError::BadSnapshot(reply.message))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: ClientError) -> CreateError {
        match error {
            ClientError::Refused(reply) if reply.code == ErrorCode::BadSnapshot => {
                CreateError::BadSnapshot(reply.message)
            }
            ClientError::Refused(reply) => CreateError::Refused(reply.message),
            ClientError::Connection(_) => CreateError::Ended(last_words(&self.dir.join("vmm.log"))),
            other => CreateError::Client(other),
        }
    }
}

/// The device for the files of a container with a new mount namespace, where the host has FUSE. A process with another
/// root than its mount namespace may make no user namespace: where the container has one, the vmm rather has that too.
fn view_device(namespaces: &[HostNamespace]) -> Option<File> {
    let has_new = |kind| namespaces.iter().any(|namespace| namespace.kind == kind && namespace.path.is_none());
    if !has_new(Namespace::Mount) || has_new(Namespace::User) {
        return None;
    }
    let device = File::options().read(true).write(true).open("/dev/fuse");
    device.inspect_err(|error| log::debug!("/dev/fuse: {error}")).ok()
}

/// A page of a template that cannot be had ends a machine without a word.
fn without_memory(error: CreateError, signal: Option<Signal>) -> CreateError {
    match (error, signal) {
        (CreateError::Ended(_), Some(Signal::SIGBUS)) => CreateError::BadSnapshot(
            "a page of its memory cannot be read; the disk is full, or the file was cut".into(),
        ),
        (error, _) => error,
    }
}

/// The end of a vmm's log, as one line.
fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let words = lines.iter().rev().take(5).rev().copied().collect::<Vec<_>>().join("; ");
    let skip = words.chars().count().saturating_sub(LAST_WORDS_MAX);
    if words.is_empty() { "it left no word in its log".to_owned() } else { words.chars().skip(skip).collect() }
}
