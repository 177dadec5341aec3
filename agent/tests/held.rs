//! Containers that are held, lose their host, and are taken over by another.

mod common;

use common::container::Builder;
use common::{Session, collect, noise, read_until};
use supermachine_agent_protocol::blocking::ConnectionError;
use supermachine_agent_protocol::container::{Container, ContainerMount, Furnishings, MountSource, TemplatePoint};
use supermachine_agent_protocol::spec::WINDOW;
use supermachine_agent_protocol::{
    Attached, Control, ErrorCode, ErrorReply, ExitStatus, FrameKind, Names, Request, Signal, Stream, Window, WindowSize,
};

/// Holds the container; gives the output that came before it stood still.
fn hold(session: &mut Session) -> Vec<u8> {
    session.writer.send_json(FrameKind::Request, &Request::Hold { number: 7 }).unwrap();
    let mut before = Vec::new();
    loop {
        let frame = session.reader.frame().unwrap();
        match frame.kind {
            FrameKind::Stdout => before.extend(frame.payload),
            FrameKind::Window => {}
            _ => {
                assert!(matches!(frame.parse_json().unwrap(), Control::Held { number: 7 }));
                return before;
            }
        }
    }
}

fn attach(builder: &Builder) -> (Session, Attached) {
    let mut session = builder.agent.session();
    match session.request(&Request::Attach {}).unwrap() {
        Control::Attached(attached) => (session, attached),
        other => panic!("{other:?}"),
    }
}

fn started(builder: &Builder, script: &str) -> Session {
    let mut spec = builder.spec(script);
    spec.process.stdin = true;
    let mut session = builder.create(spec);
    Builder::start_created(&mut session).unwrap();
    session
}

#[test]
fn output_crosses_the_cut_once_whoever_listens() {
    let Some(builder) = Builder::start() else { return };
    let mut session = started(&builder, "i=0; while test $i -lt 200; do i=$((i+1)); echo $i; sleep 0.01; done; exit 5");
    let mut seen = read_until(&mut session, "\n10\n").into_bytes();
    for _ in 0..3 {
        let before = hold(&mut session);
        // What was read before it stood still counts as taken.
        drop(session);
        seen.extend(before);
        session = attach(&builder).0;
        let frame = session.reader.frame().unwrap();
        if frame.kind == FrameKind::Stdout {
            let bytes = frame.payload.len().try_into().unwrap();
            session.writer.send_frame(Window { stream: Stream::Stdout, bytes }).unwrap();
            seen.extend(frame.payload);
        }
    }
    let rest = collect(&mut session);
    seen.extend(rest.stdout);
    let expected: String = (1..=200).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(seen).unwrap(), expected);
    assert_eq!(rest.exit, Some(ExitStatus::Exited(5)));
}

#[test]
fn input_that_came_is_kept_and_its_window_goes_on() {
    let Some(builder) = Builder::start() else { return };
    // Nothing is read before the cut: more than a pipe holds waits in the agent.
    let mut session = started(&builder, "while ! test -e /tmp/go; do sleep 0.01; done; exec cat");
    let input = noise(WINDOW as usize, 3);
    for part in input.chunks(50_000) {
        session.writer.send(FrameKind::Stdin, part).unwrap();
    }
    hold(&mut session);
    drop(session);
    let (mut session, attached) = attach(&builder);
    let window = attached.stdin.expect("input is expected");
    assert!(attached.started && !attached.terminal && window <= WINDOW / 2, "{attached:?}");
    let more = noise(window as usize, 4);
    session.writer.send(FrameKind::Stdin, &more).unwrap();
    session.writer.send(FrameKind::Stdin, &[]).unwrap();
    let go = supermachine_agent_protocol::Exec {
        env: vec!["PATH=/bin".into()],
        container: true,
        ..supermachine_agent_protocol::Exec::new(["touch", "/tmp/go"])
    };
    assert_eq!(builder.agent.run(go).exit, Some(ExitStatus::Exited(0)));
    let outcome = collect_all(&mut session);
    assert!(outcome == [input, more].concat(), "{} bytes", outcome.len());
}

/// Output to its end, whatever else comes.
fn collect_all(session: &mut Session) -> Vec<u8> {
    let mut output = Vec::new();
    while let Some(frame) = session.reader.next_frame().unwrap() {
        if frame.kind == FrameKind::Stdout {
            let bytes = frame.payload.len().try_into().unwrap();
            // The agent may be done with the connection already.
            let _ = session.writer.send_frame(Window { stream: Stream::Stdout, bytes });
            output.extend(frame.payload);
        }
    }
    output
}

#[test]
fn a_container_that_is_released_goes_on_where_it_is() {
    let Some(builder) = Builder::start() else { return };
    let mut session = started(&builder, "echo ready; read line; echo got-$line; exit 6");
    read_until(&mut session, "ready");
    assert_eq!(hold(&mut session), b"");
    session.writer.send_json(FrameKind::Request, &Request::Release {}).unwrap();
    session.writer.send(FrameKind::Stdin, b"word\n").unwrap();
    read_until(&mut session, "got-word\n");
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Exited(6)));
}

#[test]
fn an_end_while_nobody_listens_is_told_to_the_next_host() {
    let Some(builder) = Builder::start() else { return };
    let mut session = started(&builder, "echo ready; sleep 1000");
    read_until(&mut session, "ready");
    hold(&mut session);
    drop(session);
    builder.agent.assert_serves();
    assert!(matches!(builder.ask(&Request::KillAll { signal: 9 }), Ok(Control::Ok {})));
    let (mut session, _) = attach(&builder);
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(9)));
}

#[test]
fn a_terminal_is_taken_over_with_its_size_to_be_set() {
    let Some(builder) = Builder::start() else { return };
    let mut spec = builder.spec("echo ready; read line; stty size; sleep 1000");
    spec.process.tty = Some(WindowSize { rows: 10, cols: 20 });
    let mut session = builder.create(spec);
    Builder::start_created(&mut session).unwrap();
    read_until(&mut session, "ready");
    hold(&mut session);
    drop(session);
    let (mut session, attached) = attach(&builder);
    assert!(attached.terminal && attached.stdin == Some(WINDOW), "{attached:?}");
    session.writer.send_frame(WindowSize { rows: 30, cols: 40 }).unwrap();
    session.writer.send(FrameKind::Stdin, b"\n").unwrap();
    read_until(&mut session, "30 40");
    session.writer.send_frame(Signal(9)).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(9)));
}

#[test]
fn nothing_is_taken_over_that_is_not_held() {
    let Some(builder) = Builder::start() else { return };
    let refused = || match builder.agent.session().request(&Request::Attach {}) {
        Err(ConnectionError::Refused(error)) => assert_eq!(error.code, ErrorCode::Unavailable),
        other => panic!("{other:?}"),
    };
    refused();
    let mut session = started(&builder, "echo ready; sleep 1000");
    read_until(&mut session, "ready");
    refused();
    // The one that has it still does.
    session.writer.send_frame(Signal(9)).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(9)));
}

fn adopt(builder: &Builder, hostname: &str) -> Session {
    let mut session = builder.agent.session();
    let names = Names { hostname: Some(hostname.to_owned()), domainname: None };
    match session.request(&Request::Adopt(names)).unwrap() {
        Control::Attached(attached) => assert!(!attached.terminal),
        other => panic!("{other:?}"),
    }
    session
}

#[test]
fn one_that_is_adopted_stands_still_until_its_start_and_has_a_name_of_its_own() {
    let Some(builder) = Builder::start() else { return };
    let mut session = started(&builder, "echo ready; sleep 1; i=0; while :; do i=$((i+1)); echo $i; hostname; done");
    read_until(&mut session, "ready");
    hold(&mut session);
    drop(session);
    let mut session = adopt(&builder, "other");
    // Where it is not wanted, a hold or a release changes nothing of that.
    session.writer.send_json(FrameKind::Request, &Request::Release {}).unwrap();
    assert!(matches!(Builder::start_created(&mut session), Ok(())), "the answer is the first to come");
    let output = read_until(&mut session, "2\n");
    assert!(output.starts_with("1\nother\n"), "{output:?}");
    session.writer.send_frame(Signal(9)).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Signaled(9)));
}

#[test]
fn one_that_was_not_started_is_adopted_and_entered() {
    let Some(builder) = Builder::start() else { return };
    let mut spec = builder.spec("hostname; cat; exit 4");
    spec.process.stdin = true;
    spec.template = Some(TemplatePoint::PreExec);
    let furnishings = spec.take_furnishings();
    let mut session = builder.create(spec);
    hold(&mut session);
    drop(session);
    let mut session = adopt(&builder, "mine");
    furnish(&mut session, furnishings).unwrap();
    Builder::start_created(&mut session).unwrap();
    session.writer.send(FrameKind::Stdin, b"in\n").unwrap();
    session.writer.send(FrameKind::Stdin, &[]).unwrap();
    let outcome = collect(&mut session);
    assert_eq!((outcome.stdout.as_slice(), outcome.exit), (&b"mine\nin\n"[..], Some(ExitStatus::Exited(4))));
}

/// A container with mounts of `wanted` at the end, as a host makes one that is to be a template.
fn unfurnished(builder: &Builder, change: impl FnOnce(&mut Container)) -> (Container, Furnishings) {
    let mut spec = builder.spec("echo not this one");
    spec.template = Some(TemplatePoint::PreExec);
    spec.process.env.push("SECRET=first".to_owned());
    change(&mut spec);
    let furnishings = spec.take_furnishings();
    assert!(spec.process.argv.len() == 1 && spec.process.env.iter().all(|entry| entry.starts_with("PATH=")));
    (spec, furnishings)
}

fn furnish(session: &mut Session, furnishings: Furnishings) -> Result<(), ErrorReply> {
    match session.request(&Request::Furnish(Box::new(furnishings))) {
        Ok(Control::Created { .. }) => Ok(()),
        Err(ConnectionError::Refused(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_that_is_adopted_has_a_program_of_its_own() {
    let Some(builder) = Builder::start() else { return };
    let (spec, furnishings) = unfurnished(&builder, |spec| spec.root.read_only = true);
    let program = |script: &str| Furnishings {
        argv: ["sh", "-c", script].map(str::to_owned).into(),
        env: [&furnishings.env[..], &["OWN=mine".to_owned()]].concat(),
        ..Furnishings::default()
    };
    let mut session = builder.create(spec);
    hold(&mut session);
    drop(session);
    let mut session = adopt(&builder, "mine");
    let script = "echo $OWN $SECRET ${#LONG3}; touch /new 2>/dev/null || echo read-only; exit 7";
    furnish(&mut session, program("echo not this one either")).unwrap();
    // The one that is told last counts, and it may be long.
    let mut last = program(script);
    last.env.extend((0..4).map(|number| format!("LONG{number}={}", "x".repeat(100_000))));
    furnish(&mut session, last).unwrap();
    Builder::start_created(&mut session).unwrap();
    let outcome = collect(&mut session);
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), "mine first 100000\nread-only\n");
    assert_eq!(outcome.exit, Some(ExitStatus::Exited(7)));
}

#[test]
fn what_it_cannot_be_furnished_with_is_told() {
    let Some(builder) = Builder::start() else { return };
    let share = |destination: &str, source: MountSource| {
        serde_json::from_value::<ContainerMount>(
            serde_json::json!({"destination": destination, "source": source, "flags": []}),
        )
        .unwrap()
    };
    let own = MountSource::Bind { path: "/".to_owned() };
    type Change<'a> = &'a dyn Fn(&mut Furnishings);
    let cases: [(Change<'_>, ErrorCode); 4] = [
        (&|wanted| wanted.argv = vec!["nothing-like-it".to_owned()], ErrorCode::NotFound),
        (&|wanted| wanted.argv.clear(), ErrorCode::BadRequest),
        (&|wanted| wanted.mounts.push(share("/m", own.clone())), ErrorCode::BadRequest),
        (&|wanted| wanted.mounts = vec![share("/m", MountSource::Share { number: 0 }); 129], ErrorCode::BadRequest),
    ];
    for (change, code) in cases {
        let (spec, mut furnishings) = unfurnished(&builder, |_| ());
        change(&mut furnishings);
        let mut session = builder.create_next(&spec);
        assert_eq!(furnish(&mut session, furnishings).map_err(|error| error.code), Err(code));
    }
    // One that is held, one that got nothing, and one that was started.
    let (spec, furnishings) = unfurnished(&builder, |_| ());
    let mut session = builder.create_next(&spec);
    hold(&mut session);
    assert_eq!(furnish(&mut session, furnishings).map_err(|error| error.code), Err(ErrorCode::BadRequest));
    drop(session);
    let mut session = builder.create_next(&spec);
    assert_eq!(Builder::start_created(&mut session).map_err(|error| error.code), Err(ErrorCode::BadRequest));
    let mut session = builder.create_next(&builder.spec("sleep 1000"));
    Builder::start_created(&mut session).unwrap();
    assert_eq!(furnish(&mut session, Furnishings::default()).map_err(|error| error.code), Err(ErrorCode::BadRequest));
}

#[test]
fn an_adopted_one_ends_with_its_host() {
    let Some(builder) = Builder::start() else { return };
    let mut session = started(&builder, "echo ready; sleep 1000");
    read_until(&mut session, "ready");
    hold(&mut session);
    drop(session);
    drop(adopt(&builder, "other"));
    let mut session = builder.create_next(&builder.spec("exit 6"));
    Builder::start_created(&mut session).unwrap();
    assert_eq!(collect(&mut session).exit, Some(ExitStatus::Exited(6)));
}

#[test]
fn the_first_port_is_told_of_once() {
    let Some(builder) = Builder::start() else { return };
    for (script, tells) in [("nc -l -p 2000 & nc -l -p 2001 & sleep 1; exit 5", 1), ("sleep 0.1; exit 5", 0)] {
        let mut spec = builder.spec(script);
        spec.template = Some(TemplatePoint::Listener);
        let mut session = builder.create_next(&spec);
        Builder::start_created(&mut session).unwrap();
        let mut told = 0;
        loop {
            let frame = session.reader.frame().unwrap();
            match frame.kind {
                FrameKind::Control => {
                    assert_eq!(frame.parse_json::<Control>().unwrap(), Control::Listening {});
                    told += 1;
                }
                FrameKind::Exit => break,
                _ => {}
            }
        }
        assert_eq!(told, tells, "{script}");
    }
}
