//! The virtual machine itself: QEMU's command line, and the three ports that lead to the guest.

use std::ffi::OsString;
use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::emulator::Emulator;
use super::kernel::Kernel;
use super::stream::UntilMark;
use super::{Clock, Outcome, Streams, VmOptions};
use crate::process;
use crate::progress::Line;

/// The kernel's log, in the run's directory.
pub(super) const LOG: &str = "kernel.log";

/// How long QEMU may take to open its ports; it does so before it starts the machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A log on the serial port; the machine ends when the kernel fails; and less work at boot: no self-tests of ciphers,
/// no defences that an emulated CPU doesn't need. Without `tsc=reliable` the kernel mistrusts the time-stamp counter
/// and reads the time from an emulated timer, which costs microseconds each time. Without `no_timer_check` it tests its
/// timer, and may miss the ticks on a busy machine, which ends in a panic.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 panic=-1 oops=panic \
    cryptomgr.notests=1 mitigations=off nokaslr audit=0 tsc=reliable no_timer_check";

/// A machine that is ready to run.
pub(super) struct Machine<'a> {
    pub(super) emulator: &'a Emulator,
    pub(super) kernel: &'a Kernel,
    pub(super) initramfs: &'a Path,
    /// The run's own directory: the command, the ports, the log.
    pub(super) directory: &'a Path,
    pub(super) options: &'a VmOptions,
}

/// The guest's ports, by number: the command's output streams, and how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Out = 1,
    Err = 2,
    Control = 3,
}

/// What the readers of the ports report.
#[derive(Debug)]
enum Event {
    /// The output of this port is complete.
    Complete,
    /// The command ended.
    Status(i32),
    /// The machine is gone.
    Closed,
    /// Our own side of the output can't be written.
    Failed(std::io::Error),
}

impl Machine<'_> {
    /// Boots the machine, passes the command's output on, and ends the machine.
    pub(super) fn run(&self, streams: Streams<'_>) -> Result<Outcome> {
        let deadline = Instant::now() + self.options.timeout;
        let booting = Line::show(format!("booting Linux {}", self.kernel.release));
        let booting = &booting;
        let mark = format!("~end-{:016x}~", RandomState::new().build_hasher().finish());
        let listeners =
            [Port::Out, Port::Err, Port::Control].map(|port| UnixListener::bind(self.socket(port)));
        fs::write(self.directory.join("mark"), &mark)?;
        let mut running = Running(self.command()?.spawn().context("cannot start QEMU")?);
        let mut ports = Vec::new();
        for listener in listeners {
            ports.push(running.connection(&listener.context("cannot make a socket")?)?);
        }
        let [out, err, control] =
            <[UnixStream; 3]>::try_from(ports).map_err(|_| anyhow::anyhow!("not three ports"))?;

        thread::scope(|scope| {
            // Each reader sends at most two events, so none ever waits for the channel.
            let (events, received) = sync_channel(6);
            let (out_events, err_events) = (events.clone(), events.clone());
            let (out_mark, err_mark) = (UntilMark::new(&mark), UntilMark::new(&mark));
            scope.spawn(move || copy(out, out_mark, streams.out, booting, &out_events));
            scope.spawn(move || copy(err, err_mark, streams.err, booting, &err_events));
            scope.spawn(move || read_status(control, &events));
            let outcome = await_end(&received, deadline);
            // Ends the readers, too: their ports close with the machine.
            drop(running);
            outcome
        })
    }

    fn socket(&self, port: Port) -> PathBuf {
        self.directory.join(format!("port{}", port as u8))
    }

    fn command(&self) -> Result<Command> {
        let mut command = dying_with_us(self.emulator.program());
        self.emulator.equip(&mut command)?;
        let options = self.options;
        command.args(["-machine", "q35", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        match options.clock {
            Clock::Host => {
                command.args(["-accel", "tcg,thread=multi"]).arg("-smp").arg(options.cpus.to_string());
            }
            Clock::Instructions => {
                command.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-smp", "1"]);
            }
        }
        command.args(["-cpu", "max"]).arg("-m").arg(format!("{}M", options.memory_mib));
        command.arg("-kernel").arg(self.kernel.image()).arg("-initrd").arg(self.initramfs);
        command.arg("-append").arg(self.kernel_arguments());
        command.arg("-serial").arg(with_path("file:", &self.directory.join(LOG)));
        command.args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
        for port in [Port::Out, Port::Err, Port::Control] {
            let number = port as u8;
            let socket = format!("socket,id=port{number},path=");
            command.arg("-chardev").arg(with_path(&socket, &self.socket(port)));
            command.arg("-device").arg(format!("virtserialport,chardev=port{number},nr={number}"));
        }
        command.args([
            "-virtfs",
            "local,path=/,mount_tag=hostroot,security_model=none,readonly=on,multidevs=remap",
        ]);
        if let Some(out) = &options.out {
            let share = "local,mount_tag=out,security_model=none,multidevs=remap,path=";
            command.arg("-virtfs").arg(with_path(share, out));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    /// What the kernel is told; the variables in it reach the guest's first process.
    fn kernel_arguments(&self) -> OsString {
        let mut arguments = OsString::from(KERNEL_ARGUMENTS);
        arguments.push(if self.options.verbose { " loglevel=7" } else { " quiet" });
        for (name, path) in [("lvs_job", self.directory), ("lvs_modules", &self.kernel.modules())] {
            arguments.push(format!(" {name}=\""));
            arguments.push(path);
            arguments.push("\"");
        }
        if self.options.out.is_some() {
            arguments.push(" lvs_out=1");
        }
        arguments
    }
}

/// An option for QEMU that ends in a path; a comma in it would begin another option.
fn with_path(option: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(path.to_string_lossy().replace(',', ",,"));
    argument
}

/// A command that the kernel kills when we die: a machine must not outlive us, whatever ends us.
fn dying_with_us(program: PathBuf) -> Command {
    match process::find("setpriv") {
        Some(setpriv) => {
            let mut command = process::command(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => process::command(program),
    }
}

/// A started machine; ended when dropped.
struct Running(Child);

impl Running {
    /// Waits for QEMU to connect to a port.
    fn connection(&mut self, listener: &UnixListener) -> Result<UnixStream> {
        const PAUSE: Duration = Duration::from_millis(5);
        listener.set_nonblocking(true)?;
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    return Ok(stream);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("cannot accept QEMU's connection"),
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("QEMU didn't start ({status})");
            }
            if Instant::now() > deadline {
                bail!("QEMU didn't open its ports within {} seconds", CONNECT_TIMEOUT.as_secs());
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already, which is what is wanted.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Waits until the command has ended and all its output is here, or until nothing more can come.
fn await_end(events: &Receiver<Event>, deadline: Instant) -> Result<Outcome> {
    let (mut status, mut complete, mut closed) = (None, 0, 0);
    loop {
        if complete == 2
            && let Some(status) = status
        {
            return Ok(Outcome::Command(status));
        }
        if complete + closed >= 3 {
            return Ok(status.map_or(Outcome::Died, Outcome::Command));
        }
        match events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Event::Complete) => complete += 1,
            Ok(Event::Status(ended)) => status = Some(ended),
            Ok(Event::Closed) => closed += 1,
            Ok(Event::Failed(error)) => return Err(error).context("cannot write the command's output"),
            Err(RecvTimeoutError::Timeout) => return Ok(Outcome::TimedOut),
            Err(RecvTimeoutError::Disconnected) => return Ok(Outcome::Died),
        }
    }
}

/// Copies a port to a stream of ours, up to the mark.
fn copy(
    mut port: UnixStream,
    mut until: UntilMark,
    to: &mut (dyn Write + Send),
    booting: &Line,
    events: &SyncSender<Event>,
) {
    let mut buffer = vec![0; 64 * 1024];
    let event = loop {
        // A port whose machine is gone may report an error instead of its end.
        let length = port.read(&mut buffer).unwrap_or(0);
        let (output, done) = if length == 0 { (until.rest(), true) } else { until.push(&buffer[..length]) };
        booting.clear();
        if let Err(error) = to.write_all(&output).and_then(|()| to.flush()) {
            break Event::Failed(error);
        }
        if length == 0 {
            break Event::Closed;
        }
        if done {
            break Event::Complete;
        }
    };
    // Nobody listens any more only when the outcome is known.
    events.send(event).ok();
}

/// Reads how the command ended: a line with its status.
fn read_status(port: UnixStream, events: &SyncSender<Event>) {
    let mut line = String::new();
    let mut port = BufReader::new(port);
    if port.read_line(&mut line).is_ok()
        && let Ok(status) = line.trim().parse()
    {
        events.send(Event::Status(status)).ok();
        // The guest takes a closed port as the sign that we are gone: keep it open until the machine ends.
        port.read_line(&mut line).ok();
    }
    events.send(Event::Closed).ok();
}
