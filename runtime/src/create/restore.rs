//! `restore`: from the image of a checkpoint to a container that goes on. Whatever fails, nothing is left.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use supermachine_lock::Mode;
use supermachine_vmm_api::{ClientError, Reply, Request};

use super::undo::Undo;
use super::{Building, CreateError, Created, Host, Order, Origin, Terminal, io_error, planned};
use crate::bundle::Bundle;
use crate::checkpoint::{Image, VolumeMark};
use crate::console::Console;
use crate::host::files::Files;
use crate::host::launch::Launched;
use crate::host::process;
use crate::paths::{self, Parts};
use crate::plan::{HostVolume, Plan};
use crate::rootfs;
use crate::state::{Record, Root, Vmm};

/// Makes a container that goes on from an image. What is the host's affair comes from the order's bundle: control group,
/// limits of the host, namespaces, hooks, annotations, what `exec` starts from. What is in the machine is the image's.
///
/// # Errors
/// As for [`create`](super::create), and an image that is not what was saved.
pub fn restore(root: &Root, order: &Order<'_>, image: Image) -> Result<Created, CreateError> {
    let bundle = Bundle::read(order.bundle, order.config)?;
    let mut plan = planned(order, &bundle)?;
    if plan.terminal != image.manifest.terminal {
        return Err(CreateError::Terminal { saved: image.manifest.terminal });
    }
    image.check_volumes()?;
    // The machine is made already.
    plan.vm.memory_mib = image.manifest.memory_mib;
    plan.volumes = volumes(&image);
    let console = match order.terminal {
        Terminal::Own(socket) => Console::detached(plan.container.process.tty, socket)?,
        Terminal::Callers => None,
    };
    let parts = Parts::find()?;
    plan.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let (dir, lock) = root.make(order.id)?;
    let mut undo = Undo::new(dir.clone());
    let building = Building { order, bundle: &bundle, parts: &parts, dir: &dir };
    match building.restore(&plan, image, console, &mut undo) {
        Ok((record, machine)) => {
            undo.forget();
            Ok(Created { dir, record, machine, lock })
        }
        Err(error) => {
            undo.run();
            Err(error)
        }
    }
}

fn volumes(image: &Image) -> Vec<HostVolume> {
    let host = |volume: &VolumeMark| HostVolume {
        mount: 0,
        source: volume.path.clone(),
        size_mib: 0,
        read_only: volume.read_only,
    };
    image.manifest.volumes.iter().map(host).collect()
}

impl Building<'_> {
    fn restore(
        &self,
        plan: &Plan,
        image: Image,
        console: Option<Console>,
        undo: &mut Undo,
    ) -> Result<(Record, Launched), CreateError> {
        // Ours until the container is made: one being made is alive.
        let alive = supermachine_lock::open(&self.dir.join("alive")).map_err(io_error("make the sign of life"))?;
        supermachine_lock::hold(&alive, Mode::Alone).map_err(io_error("lock the sign of life"))?;
        // It has its images from the checkpoint: it keeps none of the store's.
        let hold = rootfs::store()?.hold(&format!("container {}", self.order.id))?;
        let mut record = self.record(plan, hold.path());
        let kept = hold.as_fd().try_clone_to_owned().map_err(io_error("keep the images"))?;
        undo.hold = Some(hold);
        self.dir.write_record(&record)?;
        self.write_exec_base(plan)?;
        let (snapshot, files) = (image.snapshot.clone(), Self::files(plan, image)?);
        let cgroup = self.cgroup(plan, &mut record)?;
        undo.cgroup = Some(cgroup.clone());
        let host = Host { files: &files, cgroup: &cgroup, alive: &alive, hold: kept.as_fd() };
        let (control, machine) = self.launch(plan, Origin::Checkpoint(&snapshot), console.as_ref(), &host)?;
        undo.machine = Some(machine.pid);
        let started = process::start_time(machine.pid).unwrap_or_default();
        record.vmm = Some(Vmm { pid: machine.pid, started });
        self.dir.write_record(&record)?;
        if let Some(console) = console {
            console.send()?;
        }
        self.host_hooks(plan, &record, undo)?;
        self.restore_in_guest(control, &files)?;
        self.complete(&cgroup, &mut record, &machine)?;
        Ok((record, machine))
    }

    /// What the machine's disks have behind them: the image's layers, a copy of its writable layer, the volumes.
    fn files(plan: &Plan, image: Image) -> Result<Files, CreateError> {
        let mut files = Files::default();
        if let Some(upper) = &image.upper {
            files.add_copy_of_disk(&paths::data_dir(), upper)?;
        }
        files.add_volumes(&plan.volumes)?;
        // Locked by now: nobody writes to them any more.
        image.check_volumes()?;
        files.add_open_layers(image.layers);
        Ok(files)
    }

    fn restore_in_guest(&self, control: UnixStream, files: &Files) -> Result<(), CreateError> {
        let mut client = self.client(control, files)?;
        match client.request(&Request::Restore(Box::new(files.names()))).map_err(|error| self.failed(error))? {
            Reply::Restored { .. } => Ok(()),
            other => Err(self.failed(ClientError::Unexpected(Box::new(other)))),
        }
    }
}
