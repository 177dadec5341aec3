//! Containers that are held and saved with their machine: who decides what becomes of them, and what they go on with.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::json;
use supermachine_agent_protocol::{ErrorCode, Exec};
use supermachine_vmm_api::{Client, ClientError, ContainerFiles, ContainerState, Reply, Request, Saved, Status};

use crate::harness::{Config, create, finish, wait_for};

/// A container that counts into a file, in a machine with a control socket as well.
struct Counting {
    config: Config,
    client: Client,
    child: Child,
    output: PathBuf,
}

impl Counting {
    fn start() -> Self {
        let config = Config::for_container();
        let control = config.control_path();
        let config = config.arg("--memory=128M").arg(&format!("--control={}", control.display()));
        let output = config.dir().join("output");
        let (stream, child) = config.start_inherited_on(Stdio::null(), File::create(&output).expect("a file").into());
        let mut client = Client::from_stream(stream, "e2e tests").expect("hellos");
        let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done";
        let container = json!({
            "id": "test", "root": {}, "namespaces": ["pid", "mount"],
            "process": {"argv": ["sh", "-c", script], "env": ["PATH=/bin"]},
        });
        create(&mut client, serde_json::from_value(container).expect("a container")).expect("created");
        client.request(&Request::Start {}).expect("started");
        Self { config, client, child, output }
    }

    fn lines(&self) -> usize {
        std::fs::read_to_string(&self.output).expect("a file").lines().count()
    }

    #[track_caller]
    fn assert_goes_on(&self) {
        let seen = self.lines();
        wait_for(|| self.lines() > seen + 3, "further numbers");
    }

    fn another_client(&self) -> Client {
        Client::connect(&self.config.control_path(), "e2e tests").expect("connects")
    }

    /// Saves it into a new directory; nobody has decided yet what becomes of it.
    fn save(&self, client: &mut Client, name: &str) -> PathBuf {
        let dir = self.config.dir().join(name);
        std::fs::create_dir(&dir).expect("a directory");
        match client.request(&Request::Checkpoint { dir: dir.clone() }).expect("saved") {
            Reply::Saved(saved) => assert_eq!(saved, Saved { layers: 1, upper: false, volumes: Vec::new() }),
            other => panic!("{other:?}"),
        }
        dir
    }

    fn end(mut self) {
        self.client.request(&Request::Kill { signal: 9 }).expect("killed");
        finish(self.child);
    }
}

fn refusal(result: Result<Reply, ClientError>) -> (ErrorCode, String) {
    match result {
        Err(ClientError::Refused(reply)) => (reply.code, reply.message),
        other => panic!("{other:?} instead of a refusal"),
    }
}

#[test]
fn a_client_that_goes_away_lets_the_container_go_on() {
    let counting = Counting::start();
    counting.assert_goes_on();
    for round in 0..3 {
        let mut client = counting.another_client();
        counting.save(&mut client, &format!("image{round}"));
        let still = counting.lines();
        let mut other = counting.another_client();
        for request in [Request::Usage {}, Request::Checkpoint { dir: "/no/such".into() }] {
            assert_eq!(refusal(other.request(&request)).0, ErrorCode::Unavailable, "{request:?}");
        }
        assert!(matches!(counting.another_client().exec(Exec::new(["true"])), Err(ClientError::Refused(_))));
        assert_eq!(counting.lines(), still, "it stands still");
        drop(client);
        counting.assert_goes_on();
    }
    let text = std::fs::read_to_string(&counting.output).expect("a file");
    let complete = text.rsplit_once('\n').expect("lines").0;
    for (line, number) in complete.lines().zip(1..) {
        assert_eq!(line, number.to_string());
    }
    counting.end();
}

#[test]
fn the_one_that_saved_it_says_that_it_goes_on_elsewhere() {
    let counting = Counting::start();
    counting.assert_goes_on();
    let mut client = counting.another_client();
    counting.save(&mut client, "image");
    assert_eq!(refusal(client.request(&Request::Status {})).0, ErrorCode::BadRequest, "that lets it go on");
    counting.assert_goes_on();
    let mut client = counting.another_client();
    counting.save(&mut client, "again");
    client.request(&Request::Kill { signal: 9 }).expect("told");
    assert_eq!(finish(counting.child).status.code(), Some(137));
}

/// Lets a machine go on from an image, with these files as its layers.
fn restore(image: &Path, layers: &[PathBuf]) -> (Client, Child, Result<Reply, ClientError>) {
    let config = Config::from_snapshot(&image.join("snapshot"));
    let (stream, child) = config.start_inherited(Stdio::null());
    let mut client = Client::from_stream(stream, "e2e tests").expect("hellos");
    let files: Vec<File> = layers.iter().map(|layer| File::open(layer).expect("a layer")).collect();
    client.files(&files.iter().map(AsFd::as_fd).collect::<Vec<_>>()).expect("files are taken");
    let wanted = ContainerFiles { layers: (0..).take(files.len()).collect(), ..ContainerFiles::default() };
    let restored = client.request(&Request::Restore(Box::new(wanted)));
    (client, child, restored)
}

#[test]
fn nothing_runs_without_the_files_that_the_guest_knows() {
    let mut counting = Counting::start();
    let reply = counting.client.request(&Request::Restore(Box::default()));
    assert_eq!(refusal(reply).0, ErrorCode::BadRequest, "it does not come from a checkpoint");
    let mut client = counting.another_client();
    let image = counting.save(&mut client, "image");
    drop(client);
    let layer = image.join("layers/0");
    let longer = counting.config.dir().join("longer");
    std::fs::copy(&layer, &longer).expect("copied");
    let file = File::options().write(true).open(&longer).expect("opens");
    file.set_len(file.metadata().expect("a file").len() + 4096).expect("longer");
    for layers in [vec![], vec![longer], vec![layer.clone(), layer.clone()]] {
        let (client, child, restored) = restore(&image, &layers);
        let (_, message) = refusal(restored);
        assert!(message.contains("disk 0 had") && !message.contains('\n'), "{message}");
        drop(client);
        assert_eq!(finish(child).status.code(), Some(1), "of no use to anybody");
    }
    let (mut client, child, restored) = restore(&image, &[layer]);
    assert!(matches!(restored, Ok(Reply::Restored { started: true, terminal: false, .. })), "{restored:?}");
    match client.request(&Request::Status {}).expect("a status") {
        Reply::Status(status) => {
            let Status { container, generation, .. } = *status;
            assert_eq!((container, generation.is_some()), (Some(ContainerState::Running), true));
        }
        other => panic!("{other:?}"),
    }
    client.request(&Request::Kill { signal: 9 }).expect("killed");
    assert_eq!(finish(child).status.code(), Some(137));
    counting.end();
}
