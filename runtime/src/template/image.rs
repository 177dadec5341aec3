//! Image templates: a container's machine, saved at a point of its life over the base template, for containers of the
//! same kind.
//!
//! The key has everything that the saved machine depends on: the base, the layers, and the container as it is planned
//! without what each has for itself: its id, its names, the size of its terminal, the host's streams; and, before its
//! program is entered, that program, its environment, and what it shares with the host.

use std::path::PathBuf;

use nix::sys::stat::{SFlag, fstat, major, minor};
use supermachine_agent_protocol::container::{Container, Furnishings, TemplatePoint};
use supermachine_agent_protocol::{Exec, Names, WindowSize};
use supermachine_snapshot::store::{Event, Parts as KeyParts, Store, Template};
use supermachine_vmm_api::{Adopt, ContainerFiles, TemplateOrder};

use super::{Ready, TemplateError, chain, obstacle};
use crate::paths;
use crate::plan::Plan;

/// The container's name in its guest: the same for all, since the control group that it names is saved.
const ID: &str = "container";
/// Stands for a name that each container has for itself.
const SOME_NAME: &str = "-";
/// Stands for the size that each terminal has for itself.
const SOME_SIZE: WindowSize = WindowSize { rows: 24, cols: 80 };
/// Bytes of the command line in a key, for people who list templates.
const COMMAND_MAX: usize = 100;
/// `/dev/null`, see `Documentation/admin-guide/devices.txt`.
const NULL: (u64, u64) = (1, 3);

/// A container's image template.
#[derive(Debug)]
pub(crate) struct Image {
    parts: KeyParts,
    names: Names,
    /// What a clone is furnished with, if not everything is in the template.
    furnishings: Option<Furnishings>,
    /// The template, if there is one.
    pub(crate) found: Option<Template>,
}

impl Image {
    /// Looks for the template of the plan's container, whose layers are `images`, and makes the plan that of a container
    /// which could be in one. None, with the reason in the log, if it could not; if nobody asked for one, that of a kind
    /// that comes for the first time could not either.
    pub(crate) fn find(
        plan: &mut Plan,
        point: TemplatePoint,
        images: &[PathBuf],
        base: &Ready,
        is_automatic: bool,
    ) -> Option<Self> {
        if let Some(obstacle) = obstacle::find(plan, point) {
            // Whoever asked for this container's is told; what holds for all containers of a host is meant for those that can.
            let level = if plan.source.is_some() && !is_automatic { log::Level::Warn } else { log::Level::Debug };
            log::log!(
                level,
                "dev.supermachine.snapshot: the container starts from the base template, since {obstacle}"
            );
            return None;
        }
        let mut container = Container { id: ID.to_owned(), template: Some(point), ..plan.container.clone() };
        container.process.stdin &= plan.terminal || !reads_nothing();
        let mut kind = container.clone();
        let furnishings = (point == TemplatePoint::PreExec).then(|| kind.take_furnishings());
        let parts = parts(kind, point, images, base);
        let found = look(&parts).unwrap_or_else(|error| {
            log::warn!("image template {}: {}", parts.key().short(), chain(&error));
            None
        });
        if found.is_none() && is_automatic && !was_wanted(&parts) {
            return None;
        }
        let names = Names { hostname: container.hostname.clone(), domainname: container.domainname.clone() };
        plan.container = container;
        Some(Self { parts, names, furnishings, found })
    }

    /// What makes the vmm make it, if it is not there.
    pub(crate) fn order(&self) -> Option<TemplateOrder> {
        let missing = self.found.is_none();
        missing.then(|| TemplateOrder { data: paths::data_dir(), key: self.parts.to_map() })
    }

    /// What makes its container another with these files.
    pub(crate) fn adopt(&self, files: ContainerFiles) -> Adopt {
        Adopt { files, names: self.names.clone(), furnishings: self.furnishings.clone() }
    }
}

/// Whether a container of the same kind was here before, as far as that is known; notes this one.
fn was_wanted(parts: &KeyParts) -> bool {
    let wanted = Store::open(&paths::data_dir()).and_then(|store| store.was_wanted(parts));
    wanted.unwrap_or_else(|error| {
        log::debug!("what kinds of containers come is not noted: {}", chain(&error));
        false
    })
}

/// Whether standard input is `/dev/null`: then the process has that of its guest, and there is no end of it to be passed on.
fn reads_nothing() -> bool {
    let status = fstat(std::io::stdin());
    status.is_ok_and(|status| {
        let is_device = SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR;
        is_device && (major(status.st_rdev), minor(status.st_rdev)) == NULL
    })
}

fn parts(kind: Container, point: TemplatePoint, images: &[PathBuf], base: &Ready) -> KeyParts {
    let names: Vec<_> = images.iter().map(|image| image.file_name().unwrap_or_default().to_string_lossy()).collect();
    let digest = |text: String| KeyParts::new().with("text", text).key();
    let parts = KeyParts::new()
        .with("base", base.template.snapshot().id())
        .with("point", word(point))
        .with("layers", digest(names.join("\n")));
    // Which program is read into memory is no difference between kinds.
    let parts = match point {
        TemplatePoint::PreExec => parts,
        TemplatePoint::Listener => parts.with("command", command(&kind.process.argv)),
    };
    parts.with("container", digest(text_of(kind, point)))
}

fn word(point: TemplatePoint) -> &'static str {
    match point {
        TemplatePoint::PreExec => "pre-exec",
        TemplatePoint::Listener => "listener",
    }
}

/// All of a container that others of its kind have too.
fn text_of(container: Container, point: TemplatePoint) -> String {
    let some = |name: Option<String>| name.map(|_| SOME_NAME.to_owned());
    let Container { hostname, domainname, process, .. } = container;
    let mut process = Exec { tty: process.tty.map(|_| SOME_SIZE), ..process };
    if point == TemplatePoint::PreExec {
        (process.argv, process.env) = (Vec::new(), Vec::new());
    }
    let kind = Container {
        hostname: some(hostname),
        domainname: some(domainname),
        hook_state: String::new(),
        process,
        ..container
    };
    // Plain data with string keys: it always serializes.
    serde_json::to_string(&kind).unwrap_or_default()
}

/// The command line as far as a list shows it.
fn command(argv: &[String]) -> String {
    let line: String = argv.join(" ").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let end = line.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= COMMAND_MAX).last();
    line.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

fn look(parts: &KeyParts) -> Result<Option<Template>, TemplateError> {
    let mut tell = |event: Event<'_>| {
        if let Event::Removed { key, reason } = event {
            log::warn!("image template {} is not usable and is made anew: {reason}", key.short());
        }
    };
    Ok(Store::open(&paths::data_dir())?.find(parts, &mut tell)?)
}

#[cfg(test)]
mod tests {
    use supermachine_agent_protocol::container::{ContainerMount, MountSource};

    use super::*;

    fn container() -> Container {
        serde_json::from_value(serde_json::json!({
            "id": ID, "root": {}, "process": {"argv": ["httpd"], "env": ["A=1"]}, "hostname": "one", "namespaces": ["uts"],
        }))
        .expect("a container")
    }

    fn kind(container: &Container) -> String {
        text_of(container.clone(), TemplatePoint::Listener)
    }

    #[test]
    fn what_each_container_has_for_itself_is_not_in_the_key() {
        let one = container();
        let mut other = Container { hostname: Some("other".into()), hook_state: "x".into(), ..container() };
        assert_eq!(kind(&one), kind(&other));
        other.process.env.push("B=2".into());
        assert_ne!(kind(&one), kind(&other));
        assert_ne!(kind(&one), kind(&Container { hostname: None, ..container() }), "the guest's own name");
        let tty = |size| {
            let mut container = container();
            container.process.tty = size;
            kind(&container)
        };
        assert_eq!(tty(Some(WindowSize { rows: 1, cols: 2 })), tty(Some(SOME_SIZE)));
        assert_ne!(tty(None), tty(Some(SOME_SIZE)));
    }

    #[test]
    fn one_that_was_not_entered_is_of_the_kind_of_all_programs() {
        let kind = |change: &dyn Fn(&mut Container)| {
            let mut container = container();
            change(&mut container);
            container.take_furnishings();
            text_of(container, TemplatePoint::PreExec)
        };
        let mount: ContainerMount = serde_json::from_value(serde_json::json!({
            "destination": "/m", "source": {"share": {"number": 0}},
        }))
        .expect("a mount");
        let same = kind(&|_| ());
        assert_eq!(kind(&|container| container.process.argv = vec!["sh".into(), "-c".into()]), same);
        assert_eq!(kind(&|container| container.process.env = vec!["SECRET=1".into()]), same);
        assert_eq!(kind(&|container| container.mounts.push(mount.clone())), same);
        assert_ne!(kind(&|container| container.process.cwd = "/tmp".into()), same);
        assert_ne!(kind(&|container| container.process.user.uid = 7), same);
        let own = MountSource::Filesystem { fstype: "tmpfs".into(), source: "tmpfs".into() };
        assert_ne!(
            kind(&|container| container.mounts.push(ContainerMount { source: own.clone(), ..mount.clone() })),
            same
        );
    }

    #[test]
    fn a_command_is_cut_between_characters() {
        let argv = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(command(&argv(&["sh", "-c", "a\nb"])), "sh -c a b");
        assert_eq!(command(&argv(&[&"ä".repeat(70)])), "ä".repeat(50));
        assert_eq!(command(&[]), "");
    }
}
