//! Compiles `pulso/v1` without protoc and keeps the descriptor set, with its comments, for reflection.
use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=pulso");
    let files = ["pulse", "ingest", "log", "state", "usage", "pricing"];
    let files = files.map(|name| format!("pulso/v1/{name}.proto"));
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    let descriptors = compiler.file_descriptor_set();
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("pulso_v1_descriptor.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".pulso.v1").compile_fds(descriptors)?;
    Ok(())
}
