//! Finds DPDK, makes its bindings, builds the shim, links the core libraries.
//!
//! Without the feature `dpdk` there is nothing to do, and nothing has to be installed.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "dpdk")]
    if let Err(message) = with_dpdk::build() {
        eprintln!("\n{message}\n");
        std::process::exit(1);
    }
}

#[cfg(feature = "dpdk")]
mod with_dpdk {
    use std::env;
    use std::path::PathBuf;

    /// The oldest release that the shim is written for: an LTS.
    const VERSION_MIN: &str = "22.11";
    /// What is linked. Drivers are shared objects that load themselves when the first of these
    /// starts.
    const LIBRARIES: [&str; 5] = ["rte_eal", "rte_ethdev", "rte_mbuf", "rte_mempool", "rte_ring"];
    const SHIM: [&str; 2] = ["shim/shim.h", "shim/shim.c"];
    /// What bindings are made for; everything else is left out.
    const FUNCTIONS: [&str; 5] = [
        "rte_eal_(init|cleanup|hotplug_add|hotplug_remove)",
        "rte_(version|strerror|thread_register|thread_unregister)",
        "rte_eth_dev_(get_port_by_name|get_name_by_port|start|stop|close|set_mtu)",
        "rte_(eth_allmulticast_enable|eth_tx_done_cleanup|pktmbuf_pool_create|mempool_free|mempool_avail_count)",
        "shim_.*",
    ];

    pub(super) fn build() -> Result<(), String> {
        for file in SHIM {
            println!("cargo:rerun-if-changed={file}");
        }
        let library = pkg_config::Config::new()
            .atleast_version(VERSION_MIN)
            .cargo_metadata(false)
            .probe("libdpdk")
            .map_err(|error| missing(&error.to_string()))?;
        for path in &library.link_paths {
            println!("cargo:rustc-link-search=native={}", path.display());
        }
        for name in LIBRARIES {
            println!("cargo:rustc-link-lib=dylib={name}");
        }
        let flags = compiler_flags(&library);
        shim(&flags);
        bindings(&flags)
    }

    fn missing(why: &str) -> String {
        let found = pkg_config::Config::new().cargo_metadata(false).probe("libdpdk").map(|one| one.version);
        let what = match found {
            Ok(version) => format!("DPDK {version} is installed, {VERSION_MIN} or newer is needed"),
            Err(_) => format!("pkg-config finds no DPDK (libdpdk.pc): {why}"),
        };
        format!(
            "the feature `dpdk` needs DPDK {VERSION_MIN} LTS or newer: {what}\n\
             Debian, Ubuntu:  apt-get install libdpdk-dev clang libclang-dev pkg-config\n\
             elsewhere:       set PKG_CONFIG_PATH to the folder with libdpdk.pc\n\
             or build without the feature: everything but the port works then"
        )
    }

    /// pkg-config's paths, and what DPDK's headers take for granted.
    fn compiler_flags(library: &pkg_config::Library) -> Vec<String> {
        let mut flags: Vec<String> =
            library.include_paths.iter().map(|path| format!("-I{}", path.display())).collect();
        flags.extend(["-include", "rte_config.h"].map(str::to_owned));
        // DPDK's inline functions use instructions that its own build took for granted.
        if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
            flags.push("-march=corei7".to_owned());
        }
        flags
    }

    fn shim(flags: &[String]) {
        let mut build = cc::Build::new();
        for flag in flags {
            build.flag(flag);
        }
        build.file(SHIM[1]).opt_level(3).warnings(true).flag_if_supported("-Wno-unused-parameter");
        build.compile("dpdk_shim");
    }

    fn bindings(flags: &[String]) -> Result<(), String> {
        let mut builder = bindgen::Builder::default()
            .header(SHIM[0])
            .clang_args(flags)
            .layout_tests(false)
            .derive_default(true)
            .generate_comments(false)
            .prepend_enum_name(false)
            .rust_edition(bindgen::RustEdition::Edition2024)
            .opaque_type("rte_mbuf|rte_mempool")
            .allowlist_var("shim_.*");
        for pattern in FUNCTIONS {
            builder = builder.allowlist_function(pattern);
        }
        let bindings = builder.generate().map_err(|error| {
            format!("no bindings to DPDK could be made: {error}; libclang has to be installed (apt-get install clang libclang-dev)")
        })?;
        let out = PathBuf::from(env::var("OUT_DIR").map_err(|error| error.to_string())?);
        bindings.write_to_file(out.join("bindings.rs")).map_err(|error| error.to_string())
    }
}
