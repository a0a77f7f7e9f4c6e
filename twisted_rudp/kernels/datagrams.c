/*
 * Many datagrams in one system call, where the system has such calls. Unlike the
 * other kernels these touch a socket; there is no Python twin, for Python has one
 * call for each datagram only.
 *
 * The lock of the interpreter is kept: the sockets do not block, and what arrives
 * goes through memory that all calls share.
 */
#define _GNU_SOURCE
#include "native.h"

#ifdef HAS_MMSG
#include <errno.h>
#include <sys/socket.h>

#define BATCH 64
#define ROOM 65535

KERNEL(send_run)
{
    Py_ssize_t fd, size, done = 0;
    Py_buffer run, address;

    if (!has_arguments("send_run", nargs, 4) || as_size(args[0], &fd)
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

static int
same_sender(int one, int other)
{
    socklen_t length = arrived[one].msg_hdr.msg_namelen;
    return length == arrived[other].msg_hdr.msg_namelen
           && memcmp(&senders[one], &senders[other], length) == 0;
}

/* The datagrams first .. end - 1 as (run, size, address). */
static PyObject *
joined(int first, int end, Py_ssize_t total)
{
    PyObject *run = PyBytes_FromStringAndSize(NULL, total);
    if (run == NULL)
        return NULL;
    unsigned char *out = (unsigned char *)PyBytes_AsString(run);
    for (int i = first; i < end; i++) {
        memcpy(out, room[i], arrived[i].msg_len);
        out += arrived[i].msg_len;
    }
    /* Not by a format with '#': 3.13 compiles it into what 3.11 and 3.12 refuse. */
    PyObject *sender = PyBytes_FromStringAndSize(
        (const char *)&senders[first], (Py_ssize_t)arrived[first].msg_hdr.msg_namelen);
    if (sender == NULL) {
        Py_DECREF(run);
        return NULL;
    }
    return Py_BuildValue("NnN", run, (Py_ssize_t)arrived[first].msg_len, sender);
}

KERNEL(receive_runs)
{
    Py_ssize_t fd, most;

    if (!has_arguments("receive_runs", nargs, 2) || as_size(args[0], &fd)
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
    }
    do
        count = recvmmsg((int)fd, arrived, (unsigned int)most, MSG_DONTWAIT, NULL);
    while (count < 0 && errno == EINTR);
    if (count < 0) {
        count = 0;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *runs = PyList_New(0);
    for (int first = 0, end; runs != NULL && first < count; first = end) {
        Py_ssize_t size = arrived[first].msg_len, total = size;
        end = first + 1;
        while (end < count && total == (end - first) * size && arrived[end].msg_len
               && arrived[end].msg_len <= size && total + arrived[end].msg_len <= ROOM
               && same_sender(first, end))
            total += arrived[end++].msg_len;
        PyObject *entry = joined(first, end, total);
        if (entry == NULL || PyList_Append(runs, entry))
            Py_CLEAR(runs);
        Py_XDECREF(entry);
    }
    return runs == NULL ? NULL : Py_BuildValue("Ni", runs, count);
}
#endif
