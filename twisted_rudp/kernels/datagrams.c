/*
 * Many datagrams in one system call, where the system has such calls. Unlike the
 * other kernels these touch a socket; the twin of receive_batch is
 * twisted_rudp.net.udp.receive.PureBatch, which makes a call for each datagram.
 *
 * The lock of the interpreter is kept: the sockets do not block, and what arrives
 * goes through memory that all calls share.
 */
#define _GNU_SOURCE
#include "native.h"

#ifdef HAS_MMSG
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define BATCH 64
#define ROOM 65535
#define CONTROL 128

/* Of Linux; not every C library names them. */
#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

KERNEL(send_batch)
{
    Py_ssize_t fd, size, done = 0;
    Py_buffer run, address, source;

    if (!has_arguments("send_batch", nargs, 5) || as_size(args[0], &fd)
        || as_size(args[2], &size))
        return NULL;
    if (size <= 0)
        return refuse("size must be positive");
    if (PyObject_GetBuffer(args[1], &run, PyBUF_SIMPLE))
        return NULL;
    if (PyObject_GetBuffer(args[3], &address, PyBUF_SIMPLE)) {
        PyBuffer_Release(&run);
        return NULL;
    }
    if (PyObject_GetBuffer(args[4], &source, PyBUF_SIMPLE)) {
        PyBuffer_Release(&run);
        PyBuffer_Release(&address);
        return NULL;
    }
    /* Every message of the batch points to this one. */
    union {
        struct cmsghdr header;
        unsigned char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
    } control = {0};
    size_t control_length = 0;
    if (source.len == sizeof(struct in_pktinfo) || source.len == sizeof(struct in6_pktinfo)) {
        int six = source.len == sizeof(struct in6_pktinfo);
        control.header.cmsg_level = six ? IPPROTO_IPV6 : IPPROTO_IP;
        control.header.cmsg_type = six ? IPV6_PKTINFO : IP_PKTINFO;
        control.header.cmsg_len = CMSG_LEN((size_t)source.len);
        memcpy(CMSG_DATA(&control.header), source.buf, (size_t)source.len);
        control_length = CMSG_SPACE((size_t)source.len);
    }
    int failure = 0;
    while (done < run.len && !failure) {
        struct mmsghdr messages[BATCH] = {0};
        struct iovec pieces[BATCH];
        int count = 0;
        Py_ssize_t end = done;
        for (; count < BATCH && end < run.len; count++) {
            Py_ssize_t length = run.len - end < size ? run.len - end : size;
            pieces[count].iov_base = (unsigned char *)run.buf + end;
            pieces[count].iov_len = (size_t)length;
            messages[count].msg_hdr.msg_name = address.buf;
            messages[count].msg_hdr.msg_namelen = (socklen_t)address.len;
            messages[count].msg_hdr.msg_iov = &pieces[count];
            messages[count].msg_hdr.msg_iovlen = 1;
            if (control_length) {
                messages[count].msg_hdr.msg_control = &control;
                messages[count].msg_hdr.msg_controllen = control_length;
            }
            end += length;
        }
        int sent = sendmmsg((int)fd, messages, (unsigned int)count, 0);
        if (sent == count)
            done = end;
        else if (sent > 0) {
            /* Why the next one did not leave is told by the next call. */
            done += sent * size;
            break;
        }
        else if (errno != EINTR)
            failure = errno;
    }
    PyBuffer_Release(&run);
    PyBuffer_Release(&address);
    PyBuffer_Release(&source);
    if (failure && !done) {
        errno = failure;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromSsize_t(done);
}

static struct mmsghdr arrived[BATCH];
static struct iovec places[BATCH];
static struct sockaddr_storage senders[BATCH];
static unsigned char room[BATCH][ROOM];
static union {
    struct cmsghdr header;
    unsigned char bytes[CONTROL];
} controls[BATCH];

/* What the control messages say about one arrival, and the run it belongs to. */
struct arrival {
    int size;      /* of its datagrams */
    int hops;      /* -1: not told */
    int local_length;
    unsigned char local[sizeof(struct in6_pktinfo)];
    int next;      /* the next one of its run, -1 for the last */
    int last;      /* of a run's first: the last so far */
    Py_ssize_t total;
};
static struct arrival infos[BATCH];

static int
int_of(struct cmsghdr *control)
{
    int value;
    memcpy(&value, CMSG_DATA(control), sizeof value);
    return value;
}

static void
read_controls(int i)
{
    struct msghdr *message = &arrived[i].msg_hdr;
    struct arrival *info = &infos[i];

    info->size = (int)arrived[i].msg_len;
    info->hops = -1;
    info->local_length = 0;
    if (!message->msg_controllen)
        return;
    for (struct cmsghdr *control = CMSG_FIRSTHDR(message); control != NULL;
         control = CMSG_NXTHDR(message, control)) {
        int level = control->cmsg_level, type = control->cmsg_type;
        if (level == SOL_UDP && type == UDP_GRO) {
            int size = int_of(control);
            if (size > 0)
                info->size = size;
        }
        else if ((level == IPPROTO_IP && type == IP_TTL)
                 || (level == IPPROTO_IPV6 && type == IPV6_HOPLIMIT))
            info->hops = int_of(control);
        else if (level == IPPROTO_IP && type == IP_PKTINFO) {
            struct in_pktinfo local, back = {0};
            memcpy(&local, CMSG_DATA(control), sizeof local);
            back.ipi_spec_dst = local.ipi_spec_dst;
            info->local_length = sizeof back;
            memcpy(info->local, &back, sizeof back);
        }
        else if (level == IPPROTO_IPV6 && type == IPV6_PKTINFO) {
            struct in6_pktinfo local;
            memcpy(&local, CMSG_DATA(control), sizeof local);
            if (IN6_IS_ADDR_MULTICAST(&local.ipi6_addr))
                continue;
            if (!IN6_IS_ADDR_LINKLOCAL(&local.ipi6_addr))
                local.ipi6_ifindex = 0;
            info->local_length = sizeof local;
            memcpy(info->local, &local, sizeof local);
        }
    }
}

/* Whether two arrivals have the same sender and came the same way. */
static int
alike(int one, int other)
{
    socklen_t length = arrived[one].msg_hdr.msg_namelen;
    return length == arrived[other].msg_hdr.msg_namelen
           && memcmp(&senders[one], &senders[other], length) == 0
           && infos[one].hops == infos[other].hops
           && infos[one].local_length == infos[other].local_length
           && memcmp(infos[one].local, infos[other].local, (size_t)infos[one].local_length) == 0;
}

/*
 * The run that begins with arrival first: (run, size, address, hops, local). Built without
 * a format with '#': 3.13 compiles that into what 3.11 and 3.12 refuse.
 */
static PyObject *
entry(int first)
{
    struct arrival *info = &infos[first];
    PyObject *run = PyBytes_FromStringAndSize(NULL, info->total);
    PyObject *address = PyBytes_FromStringAndSize((const char *)&senders[first],
                                                  (Py_ssize_t)arrived[first].msg_hdr.msg_namelen);
    PyObject *local = PyBytes_FromStringAndSize((const char *)info->local, info->local_length);
    if (run == NULL || address == NULL || local == NULL) {
        Py_XDECREF(run);
        Py_XDECREF(address);
        Py_XDECREF(local);
        return NULL;
    }
    unsigned char *out = (unsigned char *)PyBytes_AsString(run);
    for (int i = first; i >= 0; i = infos[i].next) {
        memcpy(out, room[i], arrived[i].msg_len);
        out += arrived[i].msg_len;
    }
    return Py_BuildValue("NiNiN", run, info->size, address, info->hops, local);
}

KERNEL(receive_batch)
{
    Py_ssize_t fd, most;

    if (!has_arguments("receive_batch", nargs, 2) || as_size(args[0], &fd)
        || as_size(args[1], &most))
        return NULL;
    if (most <= 0 || most > BATCH)
        return refuse("from 1 to 64 datagrams at a time");
    /* Only what the last call has changed is set anew: most calls bring little. */
    static int count = BATCH;
    for (int i = 0; i < count; i++) {
        places[i].iov_base = room[i];
        places[i].iov_len = ROOM;
        arrived[i].msg_hdr.msg_name = &senders[i];
        arrived[i].msg_hdr.msg_namelen = sizeof senders[i];
        arrived[i].msg_hdr.msg_iov = &places[i];
        arrived[i].msg_hdr.msg_iovlen = 1;
        arrived[i].msg_hdr.msg_control = &controls[i];
        arrived[i].msg_hdr.msg_controllen = sizeof controls[i];
    }
    do
        count = recvmmsg((int)fd, arrived, (unsigned int)most, MSG_DONTWAIT, NULL);
    while (count < 0 && errno == EINTR);
    if (count < 0) {
        count = 0;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    /* The first arrivals of runs, in order; a sender's newest run takes what fits. */
    int firsts[BATCH], runs = 0, truncated = 0;
    for (int i = 0; i < count; i++) {
        struct arrival *info = &infos[i];
        int length = (int)arrived[i].msg_len;
        if (arrived[i].msg_hdr.msg_flags & MSG_TRUNC) {
            truncated++;
            continue;
        }
        read_controls(i);
        info->next = -1;
        int run = runs - 1;
        while (run >= 0 && !alike(firsts[run], i))
            run--;
        if (run >= 0 && length) {
            struct arrival *first = &infos[firsts[run]];
            if (first->total && first->total % first->size == 0 && first->total + length <= ROOM
                && (info->size == first->size || (length <= info->size && length < first->size))) {
                infos[first->last].next = i;
                first->last = i;
                first->total += length;
                continue;
            }
        }
        info->total = length;
        info->last = i;
        firsts[runs++] = i;
    }
    PyObject *list = PyList_New(0);
    for (int run = 0; list != NULL && run < runs; run++) {
        PyObject *made = entry(firsts[run]);
        if (made == NULL || PyList_Append(list, made))
            Py_CLEAR(list);
        Py_XDECREF(made);
    }
    return list == NULL ? NULL : Py_BuildValue("Nii", list, count, truncated);
}
#endif
