//! Image templates: a container's machine, saved at a point of its life over the base template, for containers of the
//! same kind.
//!
//! The key has everything that the saved machine depends on: the base, the layers, and the container as it is planned
//! without what each has for itself: its id, its names, the size of its terminal, the host's streams.

use std::path::PathBuf;

use nix::sys::stat::{SFlag, fstat, major, minor};
use supermachine_agent_protocol::container::{Container, TemplatePoint};
use supermachine_agent_protocol::{Exec, Names, WindowSize};
use supermachine_snapshot::store::{Event, Parts as KeyParts, Store, Template};
use supermachine_vmm_api::TemplateOrder;

use super::{Ready, TemplateError, chain};
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
    /// The template, if there is one.
    pub(crate) found: Option<Template>,
}

impl Image {
    /// Looks for the template of the plan's container, whose layers are `images`, and makes the plan that of a container
    /// which could be in one. None, with the reason in the log, if it could not.
    pub(crate) fn find(plan: &mut Plan, point: TemplatePoint, images: &[PathBuf], base: &Ready) -> Option<Self> {
        if let Some(obstacle) = obstacle(plan) {
            // Whoever asked for this container's is told; what holds for all containers of a host is meant for those that can.
            let level = if plan.source.is_some() { log::Level::Warn } else { log::Level::Debug };
            log::log!(
                level,
                "dev.supermachine.snapshot: the container starts from the base template, since {obstacle}"
            );
            return None;
        }
        plan.container.id = ID.to_owned();
        plan.container.template = Some(point);
        plan.container.process.stdin &= plan.terminal || !reads_nothing();
        let Container { hostname, domainname, .. } = &plan.container;
        let names = Names { hostname: hostname.clone(), domainname: domainname.clone() };
        let parts = parts(&plan.container, point, images, base);
        let found = look(&parts).unwrap_or_else(|error| {
            log::warn!("image template {}: {}", parts.key().short(), chain(&error));
            None
        });
        Some(Self { parts, names, found })
    }

    /// What makes the vmm make it, if it is not there.
    pub(crate) fn order(&self) -> Option<TemplateOrder> {
        let missing = self.found.is_none();
        missing.then(|| TemplateOrder { data: paths::data_dir(), key: self.parts.to_map() })
    }

    /// The names that the container is to have.
    pub(crate) fn names(&self) -> Names {
        self.names.clone()
    }
}

/// Why a container cannot be in a template.
fn obstacle(plan: &Plan) -> Option<&'static str> {
    let hooks = !plan.container.create_hooks.is_empty() || !plan.container.start_hooks.is_empty();
    let obstacles = [
        (!plan.binds.is_empty(), "directories or files of the host are mounted in it"),
        (!plan.volumes.is_empty(), "it has volumes"),
        (plan.root_disk_mib.is_some(), "what it writes to its root goes to a disk"),
        (hooks, "it has hooks that run in its machine"),
    ];
    obstacles.into_iter().find_map(|(there, what)| there.then_some(what))
}

/// Whether standard input is `/dev/null`: then the process has that of its guest, and there is no end of it to be passed on.
fn reads_nothing() -> bool {
    let status = fstat(std::io::stdin());
    status.is_ok_and(|status| {
        let is_device = SFlag::from_bits_truncate(status.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFCHR;
        is_device && (major(status.st_rdev), minor(status.st_rdev)) == NULL
    })
}

fn parts(container: &Container, point: TemplatePoint, images: &[PathBuf], base: &Ready) -> KeyParts {
    let names: Vec<_> = images.iter().map(|image| image.file_name().unwrap_or_default().to_string_lossy()).collect();
    let digest = |text: String| KeyParts::new().with("text", text).key();
    KeyParts::new()
        .with("base", base.template.snapshot().id())
        .with("point", word(point))
        .with("layers", digest(names.join("\n")))
        .with("container", digest(kind(container)))
        .with("command", command(&container.process.argv))
}

fn word(point: TemplatePoint) -> &'static str {
    match point {
        TemplatePoint::PreExec => "pre-exec",
        TemplatePoint::Listener => "listener",
    }
}

/// All of a container that others of its kind have too.
fn kind(container: &Container) -> String {
    let some = |name: &Option<String>| name.as_ref().map(|_| SOME_NAME.to_owned());
    let kind = Container {
        hostname: some(&container.hostname),
        domainname: some(&container.domainname),
        hook_state: String::new(),
        process: Exec { tty: container.process.tty.map(|_| SOME_SIZE), ..container.process.clone() },
        ..container.clone()
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
    use super::*;

    fn container() -> Container {
        serde_json::from_value(serde_json::json!({
            "id": ID, "root": {}, "process": {"argv": ["httpd"], "env": ["A=1"]}, "hostname": "one", "namespaces": ["uts"],
        }))
        .expect("a container")
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
    fn a_command_is_cut_between_characters() {
        let argv = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(command(&argv(&["sh", "-c", "a\nb"])), "sh -c a b");
        assert_eq!(command(&argv(&[&"ä".repeat(70)])), "ä".repeat(50));
        assert_eq!(command(&[]), "");
    }
}
