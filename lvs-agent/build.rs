//! Puts the kernel side's object file into the agent, where `cargo xtask build` has said with `LVS_EBPF_OBJECT` where
//! it lies. Without it the agent is built all the same, for editors and tests: it then has active checks only, and says
//! so.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=LVS_EBPF_OBJECT");
    let embedded = PathBuf::from(env::var("OUT_DIR")?).join("lvs-ebpf.o");
    match env::var_os("LVS_EBPF_OBJECT") {
        Some(object) => {
            let object = PathBuf::from(object);
            println!("cargo::rerun-if-changed={}", object.display());
            fs::copy(&object, &embedded)
                .map_err(|error| format!("LVS_EBPF_OBJECT={}: {error}", object.display()))?;
        }
        None => fs::write(&embedded, [])?,
    }
    Ok(())
}
