//! The walls around the process of a guest: what the kernel holds it to, whatever becomes of the engine inside.
//!
//! Four of them, put up before the guest's first instruction: limits on memory, processor time, descriptors and files (POSIX);
//! death with its host; files by Landlock (Linux 5.13 and later; the network from 6.7 on, and signals from 6.12 on, beside the next
//! wall; it is put up before there are threads, which then all have it); a closed list of system calls by seccomp (for all threads at
//! once), which alone keeps the network and signals out on older kernels. Outside Linux the first alone.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::wire::Trial;
use crate::model::{Access, FileGrant, Grant, Limits};

/// What stands in the folder that is there to be got out of: a folder that may be read, a file in it, and one beside it.
pub(super) const GRANTED: &str = "granted";
pub(super) const INSIDE: &str = "inside";
pub(super) const BESIDE: &str = "beside";

/// What a process needs beside the guest: the engine, what it is handed and hands back, threads.
const HOST_MEMORY_BYTES: u64 = 256 << 20;
/// How often what is handed over is there at once at the most, each time in another form.
const COPIES: u64 = 4;
/// The descriptors of a process beside the guest's handles.
const HOST_DESCRIPTORS: u64 = 64;
/// The processor time of a process beside that of the attempt.
const HOST_CPU: Duration = Duration::from_secs(5);

/// Limits that the kernel counts, for this process, which is given so many bytes of code and content beside. What was lower already stays so.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn limit(limits: &Limits, given_bytes: u64, grant: &Grant) -> std::io::Result<()> {
    let cpu = limits.timeout.saturating_add(HOST_CPU).as_secs();
    let at_most = |resource: Resource, current: u64, maximum: u64| {
        let allowed = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        setrlimit(resource, Rlimit { current: Some(current.min(allowed)), maximum: Some(maximum.min(allowed)) })
    };
    let memory = memory_bytes(limits, given_bytes);
    let descriptors = u64::from(limits.handles) + HOST_DESCRIPTORS;
    at_most(Resource::Core, 0, 0)?;
    at_most(Resource::Data, memory, memory)?;
    at_most(Resource::Cpu, cpu, cpu.saturating_add(1))?;
    at_most(Resource::Nofile, descriptors, descriptors)?;
    if widest(&grant.files) != Some(Access::ReadWrite) {
        at_most(Resource::Fsize, 0, 0)?;
    }
    Ok(())
}

/// The most that is granted of any folder; nothing where none is.
pub(super) fn widest(files: &[FileGrant]) -> Option<Access> {
    let writes = files.iter().any(|file| file.access == Access::ReadWrite);
    (!files.is_empty()).then_some(if writes { Access::ReadWrite } else { Access::Read })
}

/// Closes what this process inherited beside its standard streams: files that somebody opened for the host, and did not mean for it.
///
/// # Errors
/// When they cannot be listed.
pub(super) fn close_inherited() -> std::io::Result<()> {
    let listed = std::fs::read_dir(if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" })?;
    let open: Vec<i32> = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        #[expect(unsafe_code, reason = "a number alone does not say who owns a descriptor")]
        // SAFETY: this process has opened none itself yet but the one that listed them, which is closed already.
        unsafe {
            rustix::io::close(descriptor);
        }
    }
    Ok(())
}

/// Ends with the process that started this one.
///
/// # Errors
/// When the kernel refuses.
pub(super) fn die_with_the_host() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

#[cfg(target_os = "linux")]
pub(super) use linux::{close_files, close_system_calls};

#[cfg(not(target_os = "linux"))]
pub(super) fn close_files(_: &[FileGrant]) -> Result<(), String> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn close_system_calls(_: Option<Access>) -> Result<(), String> {
    Ok(())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;

    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
        RulesetCreatedAttr as _, Scope,
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, apply_filter_all_threads,
    };

    use crate::model::{Access, FileGrant};

    /// The newest rules of Landlock that are asked for; a kernel that has less gives what it has, but never less than the first ones.
    const NEWEST: ABI = ABI::V6;

    /// Closes all files but those below granted folders, all of the network, and signals to others. For the calling thread and those
    /// that it starts from here on.
    ///
    /// # Errors
    /// When the kernel has no Landlock, or a granted folder cannot be opened.
    pub(crate) fn close_files(granted: &[FileGrant]) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| format!("Landlock: {error}");
        let rules = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V1))
            .and_then(|rules| rules.set_compatibility(CompatLevel::BestEffort).handle_access(AccessFs::from_all(NEWEST)))
            .and_then(|rules| rules.handle_access(AccessNet::from_all(NEWEST)))
            .and_then(|rules| rules.scope(Scope::from_all(NEWEST)))
            .and_then(Ruleset::create)
            .map_err(|error| text(&error))?;
        let mut rules = rules;
        for file in granted {
            let folder = PathFd::new(&file.path).map_err(|error| format!("{}: {error}", file.path.display()))?;
            rules = rules.add_rule(PathBeneath::new(folder, below(file.access))).map_err(|error| text(&error))?;
        }
        rules.restrict_self().map(|_| ()).map_err(|error| text(&error))
    }

    fn below(access: Access) -> BitFlags<AccessFs> {
        let reads = AccessFs::ReadFile | AccessFs::ReadDir;
        match access {
            Access::Read => reads,
            Access::ReadWrite => {
                reads
                    | AccessFs::WriteFile
                    | AccessFs::RemoveDir
                    | AccessFs::RemoveFile
                    | AccessFs::MakeDir
                    | AccessFs::MakeReg
                    | AccessFs::MakeSym
                    | AccessFs::Refer
                    | AccessFs::Truncate
            }
        }
    }

    /// What a walled process goes on to need: memory, waiting, the socket to its host. All of its threads are there by then.
    const ALWAYS: &[libc::c_long] = &[
        libc::SYS_brk,
        libc::SYS_clock_getres,
        libc::SYS_clock_gettime,
        libc::SYS_clock_nanosleep,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_futex,
        libc::SYS_getpid,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_gettimeofday,
        libc::SYS_madvise,
        libc::SYS_membarrier,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_nanosleep,
        libc::SYS_ppoll,
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_restart_syscall,
        libc::SYS_rseq,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sched_getaffinity,
        libc::SYS_sched_yield,
        libc::SYS_sendmsg,
        libc::SYS_sendto,
        libc::SYS_set_robust_list,
        libc::SYS_sigaltstack,
        libc::SYS_write,
        libc::SYS_writev,
    ];

    /// And beside these, where folders are granted. Which files are opened, made, removed and renamed, Landlock says; it has no say in
    /// who asks whether there is a file, how large it is and where a link leads.
    const WITH_FILES: &[libc::c_long] = &[
        libc::SYS_copy_file_range,
        libc::SYS_dup,
        libc::SYS_faccessat,
        libc::SYS_faccessat2,
        libc::SYS_fadvise64,
        libc::SYS_fallocate,
        libc::SYS_fdatasync,
        libc::SYS_fstat,
        libc::SYS_fstatfs,
        libc::SYS_fsync,
        libc::SYS_ftruncate,
        libc::SYS_getdents64,
        libc::SYS_linkat,
        libc::SYS_lseek,
        libc::SYS_mkdirat,
        libc::SYS_newfstatat,
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_pread64,
        libc::SYS_preadv,
        libc::SYS_preadv2,
        libc::SYS_pwrite64,
        libc::SYS_pwritev,
        libc::SYS_pwritev2,
        libc::SYS_readlinkat,
        libc::SYS_renameat,
        libc::SYS_renameat2,
        libc::SYS_statx,
        libc::SYS_symlinkat,
        libc::SYS_unlinkat,
    ];

    /// What of `fcntl` is open, where folders are granted: not what has signals sent to another process.
    const OF_DESCRIPTORS: &[libc::c_int] = &[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL];

    /// Closes all system calls but those that a guest's host functions need, for every thread of this process; `files` is the most that
    /// is granted of any folder.
    ///
    /// # Errors
    /// When the kernel has no seccomp, or the processor is one that nobody has written a list for.
    pub(crate) fn close_system_calls(files: Option<Access>) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| format!("seccomp: {error}");
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
        if files.is_some() {
            rules.extend(WITH_FILES.iter().map(|call| (*call, Vec::new())));
        }
        #[cfg(target_arch = "x86_64")]
        rules.extend([(libc::SYS_poll, Vec::new())]);
        let only = |argument: u8, mask: u64, value: u64| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value)
                .and_then(|condition| SeccompRule::new(vec![condition]))
                .map(|rule| vec![rule])
                .map_err(|error| text(&error))
        };
        let mut of_descriptors = Vec::new();
        for command in OF_DESCRIPTORS.iter().filter(|_| files.is_some()) {
            of_descriptors.extend(only(1, u64::from(u32::MAX), *command as u64)?);
        }
        if !of_descriptors.is_empty() {
            rules.insert(libc::SYS_fcntl, of_descriptors);
        }
        if files == Some(Access::ReadWrite) {
            rules.insert(libc::SYS_utimensat, only(1, u64::MAX, 0)?); // of what is open, and of nothing by its name
        }
        let executable = libc::PROT_EXEC as u64;
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            rules.insert(call, only(2, executable, 0)?);
        }
        // A panic that aborts signals itself.
        rules.insert(libc::SYS_tgkill, only(0, u64::MAX, u64::from(std::process::id()))?);
        let names = |name: libc::c_int| only(0, u64::MAX, name as u64);
        let mut prctl = names(libc::PR_SET_NAME)?;
        prctl.extend(names(libc::PR_SET_VMA)?);
        rules.insert(libc::SYS_prctl, prctl);
        let arch = || std::env::consts::ARCH.try_into().map_err(|error: seccompiler::BackendError| text(&error));
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        let closed = SeccompFilter::new(rules, refused, SeccompAction::Allow, arch()?);
        let program: BpfProgram = closed.and_then(TryInto::try_into).map_err(|error| text(&error))?;
        apply_filter_all_threads(&program).map_err(|error| text(&error))
    }
}

/// Tries what nobody inside the walls may do. To be called within them, with the system calls open that files need, so that it is
/// Landlock that has to stop those.
pub(super) fn try_to_get_out(limits: &Limits, host: u32, folder: Option<&Path>) -> Vec<Trial> {
    let mut trials = Vec::new();
    let mut trial = |act: &str, tried: std::io::Result<()>| {
        trials.push(Trial { act: act.to_owned(), stopped_by: tried.err().map(|error| error.to_string()) });
    };
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, unlinkat};
        use std::net::{TcpListener, TcpStream, UdpSocket};
        trial("read a file that everybody may read", std::fs::read("/etc/passwd").map(drop));
        trial("list a folder", std::fs::read_dir("/").map(drop));
        trial("write a file", std::fs::write(std::env::temp_dir().join(format!("sandhog-{host}")), "x"));
        if let Some(folder) = folder {
            let granted = folder.join(GRANTED);
            let opened = std::fs::OpenOptions::new().write(true).open(granted.join(INSIDE));
            trial("write a file that it may only read", opened.map(drop));
            trial("make a file where it may only read", std::fs::write(granted.join("new"), "x"));
            trial("remove a file that it may only read", unlinkat(CWD, granted.join(INSIDE), AtFlags::empty()).map_err(Into::into));
            trial("read beside what it may read", std::fs::read(folder.join(BESIDE)).map(drop));
            trial("go up from what it may read", std::fs::read(granted.join("..").join(BESIDE)).map(drop));
        }
        trial("read the memory of its host", std::fs::File::open(format!("/proc/{host}/mem")).map(drop));
        trial("connect to an address", TcpStream::connect("127.0.0.1:9").map(drop));
        trial("listen on an address", TcpListener::bind("127.0.0.1:0").map(drop));
        trial("send datagrams", UdpSocket::bind("127.0.0.1:0").map(drop));
        trial("make a socket", std::os::unix::net::UnixDatagram::unbound().map(drop));
        trial("start a thread", std::thread::Builder::new().spawn(|| {}).map(drop));
        trial("start a program", std::process::Command::new("/bin/true").status().map(drop));
        let pid = i32::try_from(host).ok().and_then(rustix::process::Pid::from_raw).ok_or(rustix::io::Errno::SRCH);
        trial("signal its host", pid.and_then(rustix::process::test_kill_process).map_err(Into::into));
        trial("have its host signalled", own_signals());
        let unchanged = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let times = rustix::fs::Timestamps { last_access: unchanged, last_modification: unchanged };
        let dated = rustix::fs::utimensat(CWD, "/", &times, AtFlags::empty());
        trial("date a file", dated.map_err(Into::into));
        let mode = rustix::fs::fchmod(std::io::stdin(), rustix::fs::Mode::RUSR);
        trial("change who may read a file", mode.map_err(Into::into));
        trial("make memory executable", executable_memory());
        let lower = Rlimit { current: Some(0), maximum: Some(0) };
        trial("change its limits", setrlimit(Resource::Core, lower).map_err(Into::into));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (host, folder);
    let mut memory = Vec::<u8>::new();
    let more = usize::try_from(memory_bytes(limits, 0)).unwrap_or(usize::MAX / 2);
    trial("take more memory than it may", memory.try_reserve_exact(more).map_err(std::io::Error::other));
    let mut duplicates = Vec::new();
    let taken = (0..=u64::from(limits.handles) + HOST_DESCRIPTORS).try_for_each(|_| {
        duplicates.push(std::os::fd::AsFd::as_fd(&std::io::stdin()).try_clone_to_owned()?);
        Ok(())
    });
    trial("open more descriptors than it may", taken);
    trials
}

/// How much memory the process of an attempt may take, in bytes.
fn memory_bytes(limits: &Limits, given_bytes: u64) -> u64 {
    let handed = limits.input.saturating_add(limits.output).saturating_add(limits.log).saturating_mul(COPIES);
    [limits.memory, limits.scratch, handed, given_bytes, HOST_MEMORY_BYTES].into_iter().fold(0, u64::saturating_add)
}

/// Asks for signals about standard input; for nobody, should it be allowed.
#[cfg(target_os = "linux")]
fn own_signals() -> std::io::Result<()> {
    #[expect(unsafe_code, reason = "there is no safe form of it")]
    // SAFETY: it takes a number, and touches no memory.
    let asked = unsafe { libc::fcntl(0, libc::F_SETOWN, 0) };
    if asked == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(target_os = "linux")]
fn executable_memory() -> std::io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    const SIZE: usize = 4096;
    #[expect(unsafe_code, reason = "mapping memory has no safe form")]
    // SAFETY: a mapping of its own, at an address that the kernel chooses, which nobody uses and which is given back.
    unsafe {
        let memory = mmap_anonymous(std::ptr::null_mut(), SIZE, ProtFlags::READ | ProtFlags::EXEC, MapFlags::PRIVATE)?;
        munmap(memory, SIZE)?;
    }
    Ok(())
}
