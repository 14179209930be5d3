#include "shim.h"

#include <string.h>

#if RTE_VERSION < RTE_VERSION_NUM(22, 11, 0, 0)
#error "DPDK 22.11 LTS or newer is needed"
#endif

const uint16_t shim_headroom = RTE_PKTMBUF_HEADROOM;

struct private_space {
	uint32_t index;
	uint32_t unused;
};
const uint16_t shim_private_size = sizeof(struct private_space);

int shim_errno(void)
{
	return rte_errno;
}

/* What of the hash is asked for: TCP only. Ports of other traffic would say nothing that a queue is chosen by. */
static const uint64_t rss_tcp = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP | RTE_ETH_RSS_IPV6_TCP_EX;
static const uint64_t rx_checksums = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t tx_checksums = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM;

int shim_port_info(uint16_t port, struct shim_port_info *out)
{
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	struct rte_eth_link link;
	int error;

	memset(out, 0, sizeof(*out));
	error = rte_eth_dev_info_get(port, &info);
	if (error != 0)
		return error;
	error = rte_eth_macaddr_get(port, &mac);
	if (error != 0)
		return error;
	if (info.driver_name != NULL)
		strncpy(out->driver, info.driver_name, sizeof(out->driver) - 1);
	memcpy(out->mac, mac.addr_bytes, sizeof(out->mac));
	out->queues_max = RTE_MIN(info.max_rx_queues, info.max_tx_queues);
	out->mtu_min = info.min_mtu;
	out->mtu_max = info.max_mtu;
	out->rx_checksums = (info.rx_offload_capa & rx_checksums) == rx_checksums;
	out->tx_checksums = (info.tx_offload_capa & tx_checksums) == tx_checksums;
	out->tx_segments = (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS) != 0;
	out->tx_segmentation = out->tx_segments && (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_TSO) != 0;
	out->rss = (info.flow_type_rss_offloads & rss_tcp) != 0;
	out->rss_key_size = info.hash_key_size;
	out->interface = info.if_index;
	if (rte_eth_link_get_nowait(port, &link) == 0) {
		out->link_up = link.link_status == RTE_ETH_LINK_UP;
		out->link_speed = link.link_speed;
	}
	return 0;
}

int shim_port_configure(uint16_t port, const struct shim_port_setup *setup)
{
	struct rte_eth_conf conf;
	struct rte_eth_dev_info info;
	int error;

	error = rte_eth_dev_info_get(port, &info);
	if (error != 0)
		return error;
	memset(&conf, 0, sizeof(conf));
	conf.rxmode.mtu = setup->mtu;
	if (setup->rx_checksums)
		conf.rxmode.offloads |= rx_checksums;
	if (setup->tx_checksums)
		conf.txmode.offloads |= tx_checksums;
	if (setup->tx_segments)
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
	if (setup->tx_segmentation)
		conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_TCP_TSO;
	if (setup->rss_key != NULL && setup->queues > 1) {
		conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		conf.rx_adv_conf.rss_conf.rss_hf = info.flow_type_rss_offloads & rss_tcp;
		if (setup->rss_key_size > 0) {
			conf.rx_adv_conf.rss_conf.rss_key = setup->rss_key;
			conf.rx_adv_conf.rss_conf.rss_key_len = setup->rss_key_size;
		}
	}
	return rte_eth_dev_configure(port, setup->queues, setup->queues, &conf);
}

int shim_port_descriptors(uint16_t port, uint16_t *rx, uint16_t *tx)
{
	return rte_eth_dev_adjust_nb_rx_tx_desc(port, rx, tx);
}

int shim_queue_setup(uint16_t port, uint16_t queue, uint16_t rx, uint16_t tx, struct rte_mempool *rx_pool)
{
	struct rte_eth_dev_info info;
	struct rte_eth_txconf tx_conf;
	struct rte_eth_rxconf rx_conf;
	unsigned int socket = (unsigned int)rte_eth_dev_socket_id(port);
	int error;

	error = rte_eth_dev_info_get(port, &info);
	if (error != 0)
		return error;
	/* Offloads of the port hold for its queues. */
	rx_conf = info.default_rxconf;
	rx_conf.offloads = 0;
	tx_conf = info.default_txconf;
	tx_conf.offloads = 0;
	error = rte_eth_rx_queue_setup(port, queue, rx, socket, &rx_conf, rx_pool);
	if (error != 0)
		return error;
	return rte_eth_tx_queue_setup(port, queue, tx, socket, &tx_conf);
}

int shim_port_stats(uint16_t port, struct shim_port_stats *out)
{
	struct rte_eth_stats stats;
	int error = rte_eth_stats_get(port, &stats);

	memset(out, 0, sizeof(*out));
	if (error != 0)
		return error;
	out->rx_packets = stats.ipackets;
	out->rx_bytes = stats.ibytes;
	out->tx_packets = stats.opackets;
	out->tx_bytes = stats.obytes;
	out->rx_missed = stats.imissed;
	out->rx_errors = stats.ierrors;
	out->rx_no_buffer = stats.rx_nombuf;
	out->tx_errors = stats.oerrors;
	return 0;
}

uint16_t shim_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count)
{
	return rte_eth_rx_burst(port, queue, packets, count);
}

uint16_t shim_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **packets, uint16_t count, int *refused)
{
	uint16_t good = rte_eth_tx_prepare(port, queue, packets, count);
	uint16_t taken = rte_eth_tx_burst(port, queue, packets, good);

	*refused = taken == good && good < count;
	return taken;
}

struct rte_mbuf *shim_mbuf_alloc(struct rte_mempool *pool)
{
	return rte_pktmbuf_alloc(pool);
}

void shim_mbuf_free(struct rte_mbuf *packet)
{
	rte_pktmbuf_free(packet);
}

void shim_mbuf_free_one(struct rte_mbuf *packet)
{
	rte_pktmbuf_free_seg(packet);
}

void shim_received(const struct rte_mbuf *packet, struct shim_received *out)
{
	/* A driver that spreads a packet over buffers has them numbered too; the caller drops the chain. */
	const struct private_space *space = (const struct private_space *)(packet + 1);

	out->index = space->index;
	out->offset = packet->data_off;
	out->size = packet->data_len;
	out->segments = packet->nb_segs;
	out->is_own = RTE_MBUF_DIRECT(packet) && rte_mbuf_refcnt_read(packet) == 1;
	out->tcp_checksum_good =
		(packet->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_GOOD;
}

void *shim_mbuf_append(struct rte_mbuf *packet, uint16_t size)
{
	return rte_pktmbuf_append(packet, size);
}

int shim_mbuf_chain(struct rte_mbuf *head, struct rte_mbuf *tail)
{
	return rte_pktmbuf_chain(head, tail);
}

void shim_mbuf_offload(struct rte_mbuf *packet, uint8_t is_ipv4, uint8_t l2, uint8_t l3, uint8_t l4, uint16_t segment_size)
{
	uint64_t flags = RTE_MBUF_F_TX_TCP_CKSUM;

	flags |= is_ipv4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	if (segment_size > 0) {
		flags |= RTE_MBUF_F_TX_TCP_SEG;
		/* Each segment has a length of its own, so its IPv4 header has a sum of its own. */
		if (is_ipv4)
			flags |= RTE_MBUF_F_TX_IP_CKSUM;
	}
	packet->ol_flags |= flags;
	packet->l2_len = l2;
	packet->l3_len = l3;
	packet->l4_len = l4;
	packet->tso_segsz = segment_size;
}

struct numbering {
	struct rte_mbuf **packets;
	void **memory;
	uint32_t count;
	uint32_t seen;
};

static void number_one(struct rte_mempool *pool, void *argument, void *object, unsigned position)
{
	struct numbering *numbering = argument;
	struct rte_mbuf *packet = object;
	struct private_space *space = (struct private_space *)(packet + 1);

	(void)pool;
	(void)position;
	if (numbering->seen < numbering->count) {
		space->index = numbering->seen;
		numbering->packets[numbering->seen] = packet;
		numbering->memory[numbering->seen] = packet->buf_addr;
	}
	numbering->seen++;
}

uint32_t shim_number(struct rte_mempool *pool, struct rte_mbuf **packets, void **memory, uint32_t count)
{
	struct numbering numbering = { packets, memory, count, 0 };

	rte_mempool_obj_iter(pool, number_one, &numbering);
	return numbering.seen;
}
