//! Turns `proto/capstan.proto` into Rust, with protox instead of a `protoc` that would have to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto/capstan.proto");
    let files = protox::compile(["proto/capstan.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
