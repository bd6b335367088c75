//! From a launch to a running dyno.

use super::body::Body;
use super::lines::{Log, Splitter};
use super::stream::Stream;
use super::{Output, Shim};
use crate::cgroup::{Controllers, Group};
use crate::config::{Config, Tier, UidBlock};
use crate::record::{Directory, Record};
use crate::sandbox::{self, Ends};
use crate::wire::{self, Answer, Doing, Failure, Launch, Prepare};
use crate::{bwrap, sandbox::rootfs};
use shipway_runtime::{Io, Observation};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A pipe's capacity: what a dyno may be ahead of its log without waiting.
const PIPE_BYTES: usize = 1 << 20;

/// Reads the launch, starts the dyno, and tells the spawner how it went.
pub(super) fn start() -> Result<Shim, ()> {
    // Ours is no session of the spawner's: what ends that does not end this. Being a leader already is as good.
    let _ = nix::unistd::setsid();
    let spawner = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from).map_err(drop)?;
    let prepared = wire::hear::<Prepare>(&spawner).doing(|| "preparing a shim".into()).and_then(prepare);
    let (config, group) = match prepared {
        Ok(prepared) => prepared,
        Err(failure) => {
            let _ = wire::say(&spawner, &Answer::Failed(failure));
            return Err(());
        }
    };
    wire::say(&spawner, &Answer::Done).map_err(drop)?;
    let Ok((launch, fds)) = receive(&spawner) else {
        // The spawner is gone before it had a dyno for us.
        abandon(group.as_ref());
        return Err(());
    };
    let launched = launch_dyno(launch, config, group.clone(), &fds);
    let answer = match &launched {
        Ok(shim) => match shim.directory.observe() {
            Ok(Some(seen)) => Answer::Started(seen),
            _ => Answer::Failed(Failure::new("reading the dyno's record", "it is not there")),
        },
        Err(failure) => Answer::Failed(failure.clone()),
    };
    let told = wire::say(&spawner, &answer);
    // From here on nobody holds us by a descriptor.
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
    }
    // Both take the kernel a while, and nobody waits for them any more: closing the disk's spare descriptor, and
    // leaving the dyno's group.
    drop(fds);
    match launched {
        Ok(shim) => {
            let _ = group.map(|group| group.leave());
            drop(told);
            Ok(shim)
        }
        Err(_) => {
            abandon(group.as_ref());
            Err(())
        }
    }
}

/// Does ahead of time what no plan is needed for.
fn prepare(prepare: Prepare) -> Result<(Config, Option<Group>), Failure> {
    let Prepare { config, group } = prepare;
    let group = match config.tier {
        Tier::Root => {
            let group = Controllers::find().make(config.network(), &group)?;
            group.enter()?;
            Some(group)
        }
        Tier::Bwrap => None,
    };
    Ok((config, group))
}

/// Removes the group of a dyno that was never started.
fn abandon(group: Option<&Group>) {
    if let Some(group) = group {
        // What is left is swept up by the next spawner.
        let _ = group.leave().map(|()| group.remove());
    }
}

fn receive(spawner: &UnixStream) -> Result<(Launch, Vec<OwnedFd>), Failure> {
    let doing = || "reading the launch".to_owned();
    let fds = wire::receive_fds(spawner).doing(doing)?;
    Ok((wire::hear(spawner).doing(doing)?, fds))
}

fn launch_dyno(launch: Launch, config: Config, group: Option<Group>, fds: &[OwnedFd]) -> Result<Shim, Failure> {
    let Launch { plan, address, port } = launch;
    let directory = Directory::new(&config.home, plan.dyno);
    let listener = wire::listen(&directory.socket(), config.uid, config.gid).doing(|| "listening as a shim".into())?;
    let (near, ends) = near_and_far(&plan.io)?;
    let mut environment: Vec<(String, String)> = plan.env.clone().into_iter().filter(|(n, _)| n != "PORT").collect();
    if plan.port {
        environment.push(("PORT".into(), port.to_string()));
    }
    let log = match plan.io {
        Io::Log => {
            let app_dir = config.home.join("logs").join(plan.app.to_string());
            let owner = (config.uid, config.gid);
            let log = Log::open(&app_dir, &plan.dyno.to_string(), &plan.name, owner, config.log_burst_bytes);
            Some(log.doing(|| format!("opening the log in {}", app_dir.display()))?)
        }
        _ => None,
    };
    let (body, terminal) = match config.tier {
        Tier::Root => {
            rootfs::layers(&plan, &config)?;
            let block = UidBlock::new(plan.uid_block)
                .ok_or_else(|| Failure::new("choosing uids", format!("there is no block {}", plan.uid_block)))?;
            ends.give_to(block)?;
            let ([namespace, disk], Some(group)) = (fds, group) else {
                return Err(Failure::new("reading the launch", "a network, a disk and a group must come with it"));
            };
            group.limit(&plan.size)?;
            let staging = directory.0.join("root");
            std::fs::create_dir(&staging).doing(|| format!("making {}", staging.display()))?;
            let spec = sandbox::Spec {
                plan: &plan,
                config: &config,
                block,
                namespace,
                disk,
                address,
                staging: &staging,
                environment,
            };
            let started = sandbox::start(&spec, ends)?;
            (Body::Root { init: started.init, group }, started.terminal)
        }
        Tier::Bwrap => {
            let (bwrap, terminal) = bwrap::start(&plan, &config, &directory.0, environment, ends)?;
            let (memory_limit_bytes, pids) = (plan.size.memory_limit_bytes(), plan.size.pids);
            (Body::Bwrap { bwrap, memory_limit_bytes, pids }, terminal)
        }
    };
    let output = match (near, log, terminal) {
        (Near::Log(sources), Some(log), _) => Output::Log {
            log: Box::new(log),
            sources: sources.into_iter().map(|fd| (Some(fd.into()), Splitter::default())).collect(),
        },
        (Near::Pipe(input, output), _, _) => Output::Stream(Stream::pipe(input, output)),
        (_, _, Some(terminal)) => Output::Stream(Stream::terminal(terminal)),
        _ => return Err(Failure::new("wiring the dyno's output", "an end is missing")),
    };
    let endpoint = SocketAddr::from((address.unwrap_or(Ipv4Addr::LOCALHOST), port));
    let observation = Observation {
        dyno: plan.dyno,
        app: plan.app,
        name: plan.name.clone(),
        endpoints: plan.port.then_some(endpoint).into_iter().collect(),
        exit: None,
    };
    let grants = address.map(|address| (address, plan.services.clone())).filter(|(_, ports)| !ports.is_empty());
    let pid = rustix::process::Pid::from_raw(body.pid() as i32);
    let pid = pid.ok_or_else(|| Failure::new("watching the dyno", "it has no pid"))?;
    let death =
        rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).doing(|| "watching the dyno".into())?;
    directory
        .write_record(&Record { observation, shim: std::process::id(), group: body.group_name(), grants })
        .doing(|| format!("writing the record in {}", directory.0.display()))?;
    let now = Instant::now();
    Ok(Shim {
        uid: config.uid,
        directory,
        death,
        output,
        listener,
        connections: Vec::new(),
        waiting: Vec::new(),
        time_limit: plan.time_limit_seconds.map(|s| now + Duration::from_secs(s.into())),
        next_look: now + body.look_every(),
        ending: None,
        exit: None,
        dismissed: false,
        body,
        // The config vars have been handed on; they stay nowhere else.
        plan: shipway_runtime::DynoPlan { env: Default::default(), ..plan },
    })
}

/// The shim's ends of the dyno's input and output.
enum Near {
    /// Standard output and error.
    Log(Vec<OwnedFd>),
    /// Input and output.
    Pipe(OwnedFd, OwnedFd),
    /// Comes from inside.
    Terminal,
}

fn near_and_far(io: &Io) -> Result<(Near, Ends), Failure> {
    let doing = || "making a pipe".to_owned();
    let pipe = || -> Result<(OwnedFd, OwnedFd), Failure> {
        let (near, far) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(doing)?;
        // A smaller pipe works too, only slower.
        let _ = rustix::pipe::fcntl_setpipe_size(&near, PIPE_BYTES);
        Ok((near, far))
    };
    Ok(match io {
        Io::Log => {
            let null = std::fs::File::open("/dev/null").doing(|| "opening /dev/null".into())?;
            let ((out, out_far), (err, err_far)) = (pipe()?, pipe()?);
            for near in [&out, &err] {
                rustix::io::ioctl_fionbio(near, true).doing(doing)?;
            }
            (Near::Log(vec![out, err]), Ends::Files([null.into(), out_far, err_far]))
        }
        Io::Pipe => {
            let ((input_far, input), (output, output_far)) = (pipe()?, pipe()?);
            let error_far = output_far.try_clone().doing(doing)?;
            (Near::Pipe(input, output), Ends::Files([input_far, output_far, error_far]))
        }
        Io::Pty { columns, lines } => (Near::Terminal, Ends::Terminal(*columns, *lines)),
    })
}
