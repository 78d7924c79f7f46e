//! One child process: started, watched for its `ready` line, signalled, and ended with its parent whatever happens.
//!
//! Promises: no process outlives this one (a kill on drop, and the kernel's parent-death signal for when there is no
//! drop); nobody waits by sleeping: the process's own output is the event. Must not know: what the process does.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::time::timeout;

/// What the standard output has told so far.
#[derive(Debug, Default)]
struct Output {
    /// The line that starts with `ready`.
    ready: Option<String>,
    /// How many lines there were, all of them in `stdout.log`.
    lines: usize,
    end: End,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// The process is gone.
    Closed,
}

/// A running child process. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: watch::Receiver<Output>,
    stderr: PathBuf,
    /// Where this run's part of the file starts: one file takes all runs.
    stderr_start: u64,
}

impl Process {
    /// Starts a program. Its output is appended to `stdout.log` and `stderr.log` in `dir`.
    pub fn spawn(binary: &Path, arguments: &[&str], dir: &Path) -> Result<Self> {
        let stderr = dir.join("stderr.log");
        let stderr_file = append_to(&stderr)?;
        let stderr_start = stderr_file.metadata()?.len();
        let mut command = with_death_signal(binary);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr_file);
        let mut child =
            spawn_from_lasting_thread(command).with_context(|| binary.display().to_string())?;
        let stdout = child.stdout.take().expect("it was piped");
        let output = watch_output(stdout, append_to(&dir.join("stdout.log"))?);
        Ok(Self {
            child,
            output,
            stderr,
            stderr_start,
        })
    }

    /// Waits for the line that starts with `ready`, and returns it.
    pub async fn ready(&mut self, within: Duration) -> Result<String> {
        let told = self
            .output
            .wait_for(|told| told.ready.is_some() || told.end == End::Closed);
        let told = timeout(within, told)
            .await
            .with_context(|| format!("no `ready` line within {within:?}"))?;
        let line = told.ok().and_then(|told| told.ready.clone());
        line.with_context(|| format!("it ended before it was ready: {}", self.stderr()))
    }

    /// Waits until it has written so many lines in all, or has ended.
    pub async fn wrote(&mut self, lines: usize, within: Duration) -> Result<()> {
        let enough = self
            .output
            .wait_for(|told| told.lines >= lines || told.end == End::Closed);
        // An error means that the watching thread is gone: it has ended.
        timeout(within, enough)
            .await
            .map(drop)
            .with_context(|| format!("it has not written {lines} lines within {within:?}"))
    }

    /// Waits for the process to end by itself.
    pub async fn exited(&mut self, within: Duration) -> Result<ExitStatus> {
        // An error means that the watching thread is gone, which it is once the output is closed.
        let closed = self.output.wait_for(|told| told.end == End::Closed);
        let ended = timeout(within, closed).await.is_ok();
        if !ended {
            bail!("process {} still runs after {within:?}", self.child.id());
        }
        Ok(self.child.wait()?)
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).context("a process id")?;
        signal::kill(Pid::from_raw(id), signal).context("signalling the process")
    }

    /// Ends it at once, without any chance to tidy up.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What this run has written to its standard error.
    pub fn stderr(&self) -> String {
        let all = std::fs::read(&self.stderr).unwrap_or_default();
        let start = usize::try_from(self.stderr_start)
            .unwrap_or(usize::MAX)
            .min(all.len());
        String::from_utf8_lossy(&all[start..]).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; there is nothing else to do about a failure here.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a child's output is no file of the store"
)]
fn append_to(file: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(file)
}

/// Reads the output to its end on a thread of its own, so that the process never blocks on a full pipe.
fn watch_output(stdout: ChildStdout, mut copy: File) -> watch::Receiver<Output> {
    let (tx, rx) = watch::channel(Output::default());
    thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while matches!(lines.read_until(b'\n', &mut line), Ok(1..)) {
            // Losing the copy must not lose the event.
            copy.write_all(&line).ok();
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            tx.send_modify(|told| {
                told.lines += 1;
                if text.starts_with("ready") {
                    told.ready = Some(text);
                }
            });
            line.clear();
        }
        tx.send_modify(|told| told.end = End::Closed);
    });
    rx
}

/// The command, wrapped so that the kernel kills it when the thread that starts it ends. `setpriv` sets that up and
/// then becomes the program, under the same process id; setting it up ourselves would take unsafe code.
fn with_death_signal(binary: &Path) -> Command {
    const SETPRIV: &str = "/usr/bin/setpriv";
    if Path::new(SETPRIV).exists() {
        let mut command = Command::new(SETPRIV);
        command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
        command
    } else {
        Command::new(binary)
    }
}

type Order = (Command, SyncSender<io::Result<Child>>);

/// Starts the command from a thread that lives as long as this process: the death signal is tied to the *thread*, and a
/// runtime's or a test's threads end earlier.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    static ORDERS: OnceLock<SyncSender<Order>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let (tx, rx) = sync_channel::<Order>(16);
        thread::spawn(move || {
            for (mut command, reply) in rx {
                // Whoever ordered it may have gone; then the child is dropped unreaped and dies with us.
                reply.send(command.spawn()).ok();
            }
        });
        tx
    });
    let (reply, answer) = sync_channel(1);
    orders
        .send((command, reply))
        .map_err(|_| anyhow!("the starting thread has ended"))?;
    Ok(answer.recv()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> (tempfile::TempDir, Process) {
        let dir = tempfile::tempdir().unwrap();
        let process = Process::spawn(Path::new("/bin/sh"), &["-c", script], dir.path()).unwrap();
        (dir, process)
    }

    #[tokio::test]
    async fn the_ready_line_is_waited_for_and_the_exit_code_is_kept() {
        let (dir, mut process) = shell("echo starting; echo ready at last; echo why >&2; exit 3");
        assert_eq!(process.ready(SOON).await.unwrap(), "ready at last");
        assert_eq!(process.exited(SOON).await.unwrap().code(), Some(3));
        assert_eq!(process.stderr(), "why\n");
        let stdout = std::fs::read_to_string(dir.path().join("stdout.log")).unwrap();
        assert_eq!(stdout, "starting\nready at last\n");
    }

    #[tokio::test]
    async fn a_process_that_ends_before_it_is_ready_is_an_error_with_its_last_words() {
        let (_dir, mut process) = shell("echo no such luck >&2");
        let error = process.ready(SOON).await.unwrap_err().to_string();
        assert!(error.contains("no such luck"), "{error}");
    }

    #[tokio::test]
    async fn dropping_ends_it() {
        let (_dir, mut process) = shell("echo ready; exec sleep 1000");
        process.ready(SOON).await.unwrap();
        let id = Pid::from_raw(i32::try_from(process.child.id()).unwrap());
        assert!(signal::kill(id, None).is_ok());
        drop(process);
        assert!(signal::kill(id, None).is_err());
    }
}
