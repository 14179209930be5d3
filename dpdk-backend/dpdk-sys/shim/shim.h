/* What Rust can't call or see: DPDK's inline functions, the fields of its packet buffers, its macros. */
#ifndef GATEWAY_DPDK_SHIM_H
#define GATEWAY_DPDK_SHIM_H

#include <stdint.h>
#include <rte_eal.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_version.h>

extern const uint16_t shim_headroom;

/* rte_errno of this thread. */
int shim_errno(void);

/* What a device can do, as far as it is used. */
struct shim_port_info {
	char driver[64];
	uint8_t mac[6];
	uint16_t queues_max;
	uint16_t mtu_min, mtu_max;
	uint8_t rx_checksums;
	uint8_t tx_checksums;
	/* 1: it takes a frame in several buffers. */
	uint8_t tx_segments;
	uint8_t tx_segmentation;
	/* 1: it spreads TCP over its queues by a hash with a key. */
	uint8_t rss;
	uint8_t rss_key_size;
	uint8_t link_up;
	/* Mbit/s; UINT32_MAX: it does not say. */
	uint32_t link_speed;
	/* Number of the kernel's interface behind it; 0: none. */
	uint32_t interface;
};
/* All of these: 0, or a negative error number. */
int shim_port_info(uint16_t port, struct shim_port_info *out);

struct shim_port_setup {
	uint16_t queues;
	uint16_t mtu;
	uint8_t rx_checksums;
	uint8_t tx_checksums;
	uint8_t tx_segments;
	uint8_t tx_segmentation;
	/* NULL: no spreading by hash. */
	uint8_t *rss_key;
	uint8_t rss_key_size;
};
int shim_port_configure(uint16_t port, const struct shim_port_setup *setup);
/* Changes the numbers of descriptors to what the device can do. */
int shim_port_descriptors(uint16_t port, uint16_t *rx, uint16_t *tx);
int shim_queue_setup(uint16_t port, uint16_t queue, uint16_t rx, uint16_t tx, struct rte_mempool *rx_pool);

struct shim_port_stats {
	uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes;
	/* Frames that found no descriptor, were broken, or found no buffer; frames that could not leave. */
	uint64_t rx_missed, rx_errors, rx_no_buffer, tx_errors;
};
int shim_port_stats(uint16_t port, struct shim_port_stats *out);

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count);
/* Offers packets to the driver's check first. Returns how many were taken; `refused` is set when the check refused the
 * one behind those. */
uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count, int *refused);

struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool);
/* A chain, or one. */
void shim_mbuf_free(struct rte_mbuf *packet);
/* A buffer of `pool` that belongs to nobody, back to it. */
void shim_mbuf_free_one(struct rte_mbuf *packet);

/* What came in. */
struct shim_received {
	/* Place in the table of shim_number. */
	uint32_t index;
	uint32_t offset;
	uint32_t size;
	/* 1: the device found the TCP checksum right. */
	uint8_t tcp_checksum_good;
	/* 1: its bytes are in this very buffer, which nothing else refers to: neither external memory, as of mlx5 with multi-packet
	 * receive queues, nor another packet's. */
	uint8_t is_own;
	/* Buffers that the packet is spread over; 1 is all that is taken. */
	uint16_t segments;
};
void shim_received(const struct rte_mbuf *packet, struct shim_received *out);

/* Room for `size` bytes at the end of a fresh buffer; NULL when it has less. */
void *shim_mbuf_append(struct rte_mbuf *packet, uint16_t size);
/* Puts `tail` behind `head`; nonzero when the chain would be too long. */
int shim_mbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail);
/* Asks for a TCP checksum, and for segments of `segment_size` where that is not 0. */
void shim_mbuf_offload(struct rte_mbuf *packet, uint8_t is_ipv4, uint8_t l2, uint8_t l3, uint8_t l4, uint16_t segment_size);

/* Gives each buffer of `pool` its number, and writes it and the start of its memory into the tables. Returns how many
 * buffers there were; writes no more than `count`. */
uint32_t shim_number(struct rte_mempool *pool, struct rte_mbuf **packets, void **memory, uint32_t count);
/* Bytes of private space that shim_number wants in each buffer. */
extern const uint16_t shim_private_size;

#endif
