//! Servers as child processes: started for one measurement, and ended with it or with this program.

use crate::fail;
use crate::fail::Result;
use crate::servers;
use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const STARTING: Duration = Duration::from_secs(10);

/// A server to measure, and how it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Its name in tables.
    pub(crate) name: String,
    how: How,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// This program, with these arguments and a port.
    Builtin(Vec<String>),
    /// A shell command with `{port}` in it.
    Command(String),
}

impl FromStr for Server {
    type Err = String;

    /// Reads `NAME=COMMAND`.
    fn from_str(text: &str) -> std::result::Result<Server, String> {
        let Some((name, command)) = text.split_once('=') else {
            return Err("expected NAME=COMMAND".to_owned());
        };
        let (name, command) = (name.trim(), command.trim());
        if name.is_empty() || command.is_empty() {
            return Err("expected a NAME and a COMMAND around the `=`".to_owned());
        }
        if servers::find(name).is_some() {
            return Err(format!("{name:?} is a built-in server; choose another name"));
        }
        if !command.contains("{port}") {
            return Err("the COMMAND must say where the `{port}` goes".to_owned());
        }
        Ok(Server { name: name.to_owned(), how: How::Command(command.to_owned()) })
    }
}

impl Server {
    /// The built-in servers, those that speak TLS if that is wanted, and after them those of the command line.
    pub(crate) fn all(extra: &[Server], tls: bool) -> Result<Vec<Server>> {
        let fitting = servers::BUILTIN.iter().filter(|server| !tls || server.run_in_tls.is_some());
        let builtin = fitting.map(|server| {
            let arguments = ["server", server.name].into_iter().chain(tls.then_some("--tls"));
            Server::builtin(server.name, arguments)
        });
        let all: Vec<Server> = builtin.chain(extra.iter().cloned()).collect();
        match all
            .iter()
            .enumerate()
            .find(|(at, server)| all[..*at].iter().any(|other| other.name == server.name))
        {
            Some((_, twice)) => Err(fail!("there are two servers of the name {:?}", twice.name)),
            None => Ok(all),
        }
    }

    /// This program as a server, by the arguments that make it one; `--port` is added to them.
    pub(crate) fn builtin<A: Into<String>>(name: &str, arguments: impl IntoIterator<Item = A>) -> Server {
        Server { name: name.to_owned(), how: How::Builtin(arguments.into_iter().map(Into::into).collect()) }
    }

    /// Starts it on one core and waits until it listens.
    ///
    /// `control` makes a built-in server count its heap and tell it; a command cannot.
    pub(crate) fn start(&self, core: usize, control: bool) -> Result<Running> {
        let port = free_port()?;
        let this = env::current_exe()?;
        let mut command = launcher(&this, core);
        let control = control && matches!(self.how, How::Builtin(_));
        match &self.how {
            How::Builtin(arguments) => {
                command.arg(&this).args(arguments).args(["--port", &port.to_string()]);
                command.args(control.then_some("--control"));
            }
            How::Command(text) => {
                // `exec`, so that the process that is measured and ended is the server and not a shell around it.
                command.args(["sh", "-c", &format!("exec {}", text.replace("{port}", &port.to_string()))]);
            }
        }
        let pipe = || if control { Stdio::piped() } else { Stdio::null() };
        let mut child = command.stdin(pipe()).stdout(pipe()).spawn()?;
        let control =
            child.stdin.take().zip(child.stdout.take()).map(|(to, from)| (to, BufReader::new(from)));
        let mut running = Running { child, port, control };
        running.wait_until_it_listens()?;
        Ok(running)
    }
}

/// A port of 127.0.0.1 that nobody listens at.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The beginning of a command whose rest is run on one core, and ended with this process.
fn launcher(this: &Path, core: usize) -> Command {
    let (core, parent) = (core.to_string(), std::process::id().to_string());
    let mut command = Command::new(this);
    command.args(["launch", "--core", &core, "--parent", &parent, "--"]);
    command
}

/// Runs this program with `arguments` on one core, and returns what it prints.
///
/// This process sleeps meanwhile.
///
/// # Errors
/// The process fails, or takes longer than `limit` and is killed.
pub(crate) fn output(core: usize, arguments: &[String], limit: Duration) -> Result<String> {
    let this = env::current_exe()?;
    let mut command = launcher(&this, core);
    command.arg(&this).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut pipe = child.stdout.take().ok_or_else(|| fail!("a process without its output"))?;
    let (done, wait) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let read = pipe.read_to_string(&mut text);
        // After the limit nobody receives this.
        let _ = done.send(read.map(|_| text));
    });
    let printed = wait.recv_timeout(limit);
    if printed.is_err() {
        // The process may end by itself at this moment: then there is nothing to kill.
        let _ = child.kill();
    }
    let status = child.wait()?;
    reader.join().map_err(|_| fail!("reading its output failed"))?;
    let text = printed.map_err(|_| fail!("it was not done after {} s", limit.as_secs()))??;
    if status.success() { Ok(text) } else { Err(fail!("it failed ({status})")) }
}

/// A started server. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// The port of 127.0.0.1 it listens at.
    pub(crate) port: u16,
    control: Option<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Running {
    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes that are allocated on its heap now; `None` for a server that cannot tell.
    pub(crate) fn heap(&mut self) -> Result<Option<i64>> {
        self.ask("heap")
    }

    /// Bytes that Threadwire's engines of compression hold by its own count; `None` for a server that cannot tell.
    pub(crate) fn engines(&mut self) -> Result<Option<i64>> {
        self.ask("engines")
    }

    fn ask(&mut self, what: &str) -> Result<Option<i64>> {
        let Some((to, from)) = &mut self.control else { return Ok(None) };
        writeln!(to, "{what}")?;
        let mut line = String::new();
        from.read_line(&mut line)?;
        Ok(Some(line.trim().parse().map_err(|_| fail!("a server that says {line:?} for its {what}"))?))
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let until = Instant::now() + STARTING;
        loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(fail!("it does not listen: {error}")),
                Err(_) => thread::sleep(Duration::from_millis(1)),
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(fail!("it ended before it listened ({status})"));
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes `command`, on one core, to be killed by the system when the process `parent` ends.
#[cfg(target_os = "linux")]
pub(crate) fn launch(core: usize, parent: u32, command: &[String]) -> Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt as _;

    crate::pin::pin(core)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().is_none_or(|id| id.as_raw_nonzero().get() as u32 != parent) {
        return Err(fail!("its parent has ended already"));
    }
    let (program, arguments) = command.split_first().ok_or_else(|| fail!("there is no command to launch"))?;
    Err(fail!("cannot start {program}: {}", Command::new(program).args(arguments).exec()))
}

/// Not here: what is measured is Linux.
#[cfg(not(target_os = "linux"))]
pub(crate) fn launch(core: usize, _parent: u32, _command: &[String]) -> Result<()> {
    crate::pin::pin(core)
}

/// Lets this process, and those it starts, open at least `count` files.
#[cfg(target_os = "linux")]
pub(crate) fn allow_files(count: u64) -> Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    let maximum = now.maximum.map(|maximum| maximum.max(count));
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum }).map_err(|error| {
        fail!("cannot open {count} files ({error}): raise `ulimit -n`, or use fewer connections")
    })
}

/// Not here: what is measured is Linux.
#[cfg(not(target_os = "linux"))]
pub(crate) fn allow_files(_count: u64) -> Result<()> {
    crate::measure::supported()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_from_name_and_command() {
        let server: Server = "other=python3 echo.py --port={port}".parse().unwrap();
        assert_eq!(server.name, "other");
        assert_eq!(server.how, How::Command("python3 echo.py --port={port}".to_owned()));
    }

    #[test]
    fn refuses_a_server_without_name_command_or_port() {
        for text in ["python3 echo.py {port}", "=echo {port}", "other=", "other=python3 echo.py"] {
            assert!(text.parse::<Server>().is_err(), "{text}");
        }
    }

    #[test]
    fn refuses_a_second_server_of_a_name() {
        assert!("raw=echo {port}".parse::<Server>().is_err());
        let other: Server = "other=echo {port}".parse().unwrap();
        assert!(Server::all(&[other.clone(), other], false).is_err());
    }
}
