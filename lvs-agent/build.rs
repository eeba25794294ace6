//! Puts the kernel side's object files into the agent, where `cargo xtask build` has said with `LVS_EBPF_OBJECT` where
//! it lies. Without it the agent is built all the same, for editors and tests: it then has active checks only, and says
//! so.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=LVS_EBPF_OBJECT");
    let embedded = PathBuf::from(env::var("OUT_DIR")?);
    let given = env::var_os("LVS_EBPF_OBJECT").map(PathBuf::from);
    // The programs with second chance lie beside the others.
    for (name, embedded) in [
        (None, embedded.join("lvs-ebpf.o")),
        (Some("lvs-second-chance"), embedded.join("lvs-second-chance.o")),
    ] {
        let Some(object) = &given else {
            fs::write(&embedded, [])?;
            continue;
        };
        let object = name.map_or_else(|| object.clone(), |name| object.with_file_name(name));
        println!("cargo::rerun-if-changed={}", object.display());
        fs::copy(&object, &embedded)
            .map_err(|error| format!("LVS_EBPF_OBJECT={}: {error}", object.display()))?;
    }
    Ok(())
}
