/* What the C original offers only as a field of its structure. Linked with its
 * source into one shared library, which library.py loads. */
#include "ikcp.h"

void peer_set_stream(ikcpcb *kcp, int on) { kcp->stream = on; }

/* Segments that were sent again because their time was over. */
unsigned peer_timeouts(const ikcpcb *kcp) { return kcp->xmit; }
