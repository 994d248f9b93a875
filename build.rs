//! Compiles the eBPF programs, `ebpf/*.bpf.c`, into objects that the crate embeds.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, exit},
};

const SOURCES: &str = "ebpf";

fn main() {
    println!("cargo:rerun-if-changed={SOURCES}");
    println!("cargo:rerun-if-env-changed=CLANG");
    if env::var_os("CARGO_FEATURE_KERNEL").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let entries = fs::read_dir(SOURCES).unwrap_or_else(|error| fail(&format!("cannot read {SOURCES}: {error}")));
    let sources = entries.flatten().map(|entry| entry.path()).filter(|path| is_program(path));
    for source in sources {
        compile(&clang, &source, &out);
    }
}

fn is_program(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(".bpf.c"))
}

fn compile(clang: &str, source: &Path, out: &Path) {
    let name = source.file_stem().expect("it has a name").to_string_lossy();
    let object = out.join(format!("{name}.o"));
    let mut command = Command::new(clang);
    command.args(["-target", target(), "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]);
    // Byte order apart, the headers of any 64-bit machine describe the same interface.
    command.args(["-I/usr/include", &format!("-I/usr/include/{}", host_headers())]);
    // Macros carry file names into messages alone; paths of the build machine have no place in the program.
    command.args(["-fdebug-compilation-dir=.", "-c"]).arg(source).arg("-o").arg(&object);
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(_) => fail(&format!(
            "{} did not compile (it needs clang 14 or later and the packages libbpf-dev and linux-libc-dev)",
            source.display()
        )),
        Err(error) => fail(&format!("cannot run {clang}: {error}")),
    }
}

fn target() -> &'static str {
    match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb",
        _ => "bpfel",
    }
}

/// Where Debian has `asm/types.h`, of the machine that builds.
fn host_headers() -> String {
    let host = env::var("HOST").expect("cargo sets it");
    let machine = host.split('-').next().unwrap_or("x86_64").to_owned();
    format!("{machine}-linux-gnu")
}

fn fail(why: &str) -> ! {
    println!("cargo:warning=the eBPF programs were not built: {why}");
    println!(
        "cargo:warning=install clang, libbpf-dev and linux-libc-dev (`make setup`), name another clang in CLANG, or build \
         without them: cargo build --no-default-features"
    );
    exit(1);
}
