//! What other projects publish, with their hardware: self-reported unless noted, read in their
//! repositories and blogs in 2026.

/// Head of the table.
pub(crate) const HEAD: [&str; 6] =
    ["system, date", "connections", "memory", "messages and latency", "CPU, hardware", "source"];

/// One system a row.
pub(crate) const ROWS: [[&str; 6]; 9] = [
    [
        "Centrifugo PRO 6.9.2, 2026",
        "1 000 000 idle WebSockets, one node",
        "RSS 11.3 GB (11.6 KB each), about 4 KB each of kernel slab",
        "pings only, every 25 s",
        "2.33 cores of 16 vCPU EPYC Genoa, 30 GB",
        "centrifugal.dev, blog 2026-08-17, tuning idle connections",
    ],
    [
        "rmqtt 0.21 (Rust), 2023",
        "1 000 000 MQTT, one node",
        "33.2 GB (33 KB each); 44.5 GB under load",
        "150 000/s, none dropped",
        "18–19 cores of 72 threads, with its clients; connects 5 500–7 000/s",
        "rmqtt/rmqtt: docs/en_US/benchmark-testing.md",
    ],
    [
        "goim, up to 2017",
        "1 000 000 in one room",
        "14 GB (14 KB each)",
        "40 pushes/s, 35.9 M/s received of 40 M; no latency given; its figures exceed its stated bandwidth",
        "20–23 cores of E5-2630v2, 32 GB",
        "Terry-Mao/goim: docs/benchmark_en.md",
    ],
    [
        "Centrifuge library, 2020",
        "1 000 000 over 20 pods",
        "27 GB (30 KB each)",
        "500 000/s delivered, p99 200 ms",
        "40 CPUs (10 when idle), E5-2640v4",
        "centrifugal.dev, blog 2020-02-10",
    ],
    [
        "EMQX 5.0, 2022",
        "100 M on 23 nodes, 5 M a node",
        "113 GiB a node (24 KB each)",
        "50 000 in + 50 000 out a second and node",
        "97 % of 64 arm64 cores; connects 16 000/s in all",
        "emqx/blog: 2022-05, reaching 100M",
    ],
    [
        "OpenIM, 2025",
        "50 000",
        "gateway 2.1 GiB (45 KB each)",
        "1 700/s sent; mean 0.20 s, max 3.64 s",
        "gateway 2.1 cores of 16, 64 GB",
        "openimsdk/docs: benchmark_test.md",
    ],
    [
        "MigratoryData, 2013",
        "12 M WebSockets",
        "kernel alone about 36 GB (3 KB each)",
        "200 000/s × 512 B",
        "57 % of a 1U Dell R610",
        "migratorydata.com, 12 million benchmark",
    ],
    [
        "uWebSockets, old README",
        "1 000 000 WebSockets",
        "111 MB of user space (104 B each)",
        "–",
        "–",
        "linecode/uwebsockets README",
    ],
    [
        "an IM gateway (this project's starting point)",
        "1 000 000",
        "of 64 GB",
        "5 000 pushes/s: mean 42.3 ms on epoll, 8.7 ms on batched user-space netpoll",
        "92 % and 36 % of 16 cores",
        "the claim in the project's issue; no source to check",
    ],
];
