//! A process of its own for each side of a comparison: started from this very binary, spoken to by lines.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a child runs under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Under {
    /// Nothing.
    Nothing,
    /// Bound to one core, so that the load maker on the other does not move it.
    Core(u32),
    /// callgrind, which counts its instructions into this file.
    Callgrind(PathBuf),
    /// The same, but only what is within these functions, named as callgrind's `--toggle-collect` wants them.
    CallgrindWithin(PathBuf, &'static [&'static str]),
}

/// What a server says when it can serve.
#[derive(Serialize, Deserialize, Debug)]
pub struct Ready {
    /// Where it listens.
    pub address: String,
}

/// What a child says about its time.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Used {
    /// Its CPU time so far, or that of a piece of work.
    pub cpu_nanos: u64,
}

impl Used {
    /// What this process has used since it had used so much.
    ///
    /// # Errors
    /// When that is more than a number can hold, which it is not.
    pub fn since(before: Duration) -> anyhow::Result<Self> {
        Ok(Self { cpu_nanos: u64::try_from((crate::cpu::used() - before).as_nanos())? })
    }
}

fn callgrind(counts: &Path, functions: &[&str], program: PathBuf) -> Command {
    let mut command = Command::new("valgrind");
    let mut out = OsString::from("--callgrind-out-file=");
    out.push(counts);
    command.args(["--quiet", "--tool=callgrind"]).arg(out);
    command.args(functions.iter().map(|function| format!("--toggle-collect={function}"))).arg(program);
    command
}

/// A running child.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Running {
    /// Starts a role of this binary.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(role: &[OsString], under: &Under) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        let mut command = match under {
            Under::Nothing => Command::new(own),
            Under::Core(core) => {
                let mut command = Command::new("taskset");
                command.arg("-c").arg(core.to_string()).arg(own);
                command
            }
            Under::Callgrind(file) => callgrind(file, &[], own),
            Under::CallgrindWithin(file, functions) => callgrind(file, functions, own),
        };
        Self::spawn(command.arg("role").args(role), under)
    }

    /// Starts a role of the binary of this name, which stands beside this one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_beside(program: &str, role: &[OsString]) -> anyhow::Result<Self> {
        let own = std::env::current_exe()?;
        Self::spawn(Command::new(own.with_file_name(program)).arg("role").args(role), &Under::Nothing)
    }

    /// Starts any program that speaks by lines.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(command: &mut Command, under: &Under) -> anyhow::Result<Self> {
        let program = command.get_program().to_owned();
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child =
            started.with_context(|| format!("start {program:?} ({under:?}); is it installed?"))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("a pipe")?);
        Ok(Self { child, input, output })
    }

    /// The next line it says.
    ///
    /// # Errors
    /// When it ends or says something else.
    pub fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("a process of the run ended early: {}", self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("understand {line:?}"))
    }

    /// Says a line and hears the answer.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub fn ask<T: DeserializeOwned>(&mut self, line: &str) -> anyhow::Result<T> {
        if let Some(input) = &mut self.input {
            writeln!(input, "{line}")?;
        }
        self.hear()
    }

    /// The CPU time it has used.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub fn cpu(&mut self) -> anyhow::Result<Duration> {
        Ok(Duration::from_nanos(self.ask::<Used>("cpu")?.cpu_nanos))
    }

    /// Has it do its work once more, and gives the CPU time of that.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub fn work(&mut self) -> anyhow::Result<Duration> {
        Ok(Duration::from_nanos(self.ask::<Used>("work")?.cpu_nanos))
    }

    /// Closes its input, at which it ends in order, and waits for that.
    ///
    /// # Errors
    /// When it fails.
    pub fn end(mut self) -> anyhow::Result<()> {
        drop(self.input.take());
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("a process of the run failed: {status}") }
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only when a run failed half-way; nothing is left behind then either.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Says one line of JSON to whoever started this process.
///
/// # Errors
/// When nobody listens.
pub fn say<T: Serialize>(message: &T) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(message)?)?;
    out.flush()?;
    Ok(())
}

/// Answers each line of the given word until the input ends.
///
/// # Errors
/// When there is no answer, or nobody listens.
pub fn answer_each<T: Serialize>(
    word: &str,
    mut answer: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    for line in std::io::stdin().lines() {
        if line? == word {
            say(&answer()?)?;
        }
    }
    Ok(())
}

/// Answers `cpu` until the input ends.
///
/// # Errors
/// When nobody listens.
pub fn answer_until_the_end() -> anyhow::Result<()> {
    answer_each("cpu", || Used::since(Duration::ZERO))
}
