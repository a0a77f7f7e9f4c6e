/*
 * FEC packets, whole runs at a time. All integers are little-endian:
 *
 *   id 4, kind 2, then what is coded: size 2, datagram
 */
#include "native.h"

enum { ID = 0, KIND = 4, CODED = 6, BODY = 8, CONV_END = 12 };
enum { DATA = 0xF1, PARITY = 0xF2 };

KERNEL(fec_conversation)
{
    Py_ssize_t size;
    Py_buffer run;

    if (!has_arguments("fec_conversation", nargs, 2) || as_size(args[1], &size)
        || PyObject_GetBuffer(args[0], &run, PyBUF_SIMPLE))
        return NULL;
    if (size <= 0) {
        PyBuffer_Release(&run);
        return refuse("size must be positive");
    }
    long long conv = -1;
    for (Py_ssize_t start = 0; start < run.len; start += size) {
        const unsigned char *at = (const unsigned char *)run.buf + start;
        Py_ssize_t length = size < run.len - start ? size : run.len - start;
        uint32_t kind = length >= BODY ? get16(at + KIND) : 0;
        if (kind == PARITY)
            continue;
        if (kind != DATA || length < CONV_END || (conv >= 0 && conv != get32(at + BODY))) {
            conv = -1;
            break;
        }
        conv = get32(at + BODY);
        if (size > run.len - start)
            break;
    }
    PyBuffer_Release(&run);
    return PyLong_FromLongLong(conv);
}

KERNEL(fec_take)
{
    Py_ssize_t size, data, shards, count = 0, length = 0;
    Py_buffer run;

    if (!has_arguments("fec_take", nargs, 4) || as_size(args[1], &size)
        || as_size(args[2], &data) || as_size(args[3], &shards)
        || PyObject_GetBuffer(args[0], &run, PyBUF_SIMPLE))
        return NULL;
    if (data < 1 || shards < data) {
        PyBuffer_Release(&run);
        return refuse("a group has at least one data packet");
    }
    const unsigned char *from = run.buf;
    Py_ssize_t there = size > BODY ? count_of(run.len, size) : 0;
    uint64_t first = there && run.len >= BODY ? get32(from + ID) : 0;
    for (; count < there; count++) {
        const unsigned char *at = from + count * size;
        Py_ssize_t left = run.len - count * size;
        uint64_t id = first + (uint64_t)count;
        int is_data = id % (uint64_t)shards < (uint64_t)data;
        if (left < BODY || get32(at + ID) != id || get16(at + KIND) != (is_data ? DATA : PARITY))
            break;
        if (is_data)
            length += (size < left ? size : left) - BODY;
    }
    PyObject *payload = PyBytes_FromStringAndSize(NULL, length);
    if (payload != NULL) {
        unsigned char *out = (unsigned char *)PyBytes_AsString(payload);
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_ssize_t left = run.len - i * size, body = (size < left ? size : left) - BODY;
            if (get16(from + i * size + KIND) != DATA)
                continue;
            memcpy(out, from + i * size + BODY, (size_t)body);
            out += body;
        }
    }
    PyBuffer_Release(&run);
    return payload == NULL ? NULL : Py_BuildValue("nN", count, payload);
}

/* A group that is being filled, and the matrix of its parity. */
typedef struct {
    const unsigned char *matrix;
    Py_ssize_t data, parity, held;
    size_t coded;
} Group;

/* Add a packet to all parity packets of its group. */
static void
code(const Group *group, unsigned char *parity, const unsigned char *coded, size_t length)
{
    size_t width = CODED + group->coded;
    for (Py_ssize_t row = 0; row < group->parity; row++) {
        unsigned char factor = group->matrix[row * group->data + group->held];
        if (factor)
            best_multiply_add(parity + (size_t)row * width + CODED, coded, length, factor);
    }
}

/* Add the packets of the group that were sent before. */
static int
code_earlier(Group *group, unsigned char *parity, PyObject *shards, Py_ssize_t count)
{
    for (group->held = 0; group->held < count; group->held++) {
        Py_buffer shard;
        PyObject *object = PySequence_GetItem(shards, group->held);
        if (object == NULL)
            return -1;
        int failed = PyObject_GetBuffer(object, &shard, PyBUF_SIMPLE);
        Py_DECREF(object);
        if (failed)
            return -1;
        size_t length = (size_t)shard.len - CODED;
        int fits = shard.len >= CODED && length <= group->coded;
        if (fits)
            code(group, parity, (const unsigned char *)shard.buf + CODED, length);
        PyBuffer_Release(&shard);
        if (!fits) {
            refuse("an earlier packet is longer than these, or none");
            return -1;
        }
    }
    return 0;
}

static int
frame(Group *group, unsigned char *out, const Py_buffer *run, Py_ssize_t size, uint32_t id,
      PyObject *shards, Py_ssize_t earlier)
{
    size_t width = (size_t)size + BODY;
    const unsigned char *from = run->buf, *end = from + run->len;
    while (from < end) {
        Py_ssize_t room = group->data - earlier, left = (end - from) / size;
        Py_ssize_t count = left < room ? left : room;
        unsigned char *parity = out + (size_t)count * width;
        int full = count == room;
        if (full) {
            memset(parity, 0, (size_t)group->parity * width);
            if (code_earlier(group, parity, shards, earlier))
                return -1;
        }
        group->held = earlier;
        for (; count > 0; count--, group->held++, out += width, from += size) {
            put32(out + ID, id++);
            put16(out + KIND, DATA);
            put16(out + CODED, (uint32_t)(size + BODY - CODED));
            memcpy(out + BODY, from, (size_t)size);
            if (full)
                code(group, parity, out + CODED, group->coded);
        }
        for (Py_ssize_t row = 0; full && row < group->parity; row++, out += width) {
            put32(out + ID, id++);
            put16(out + KIND, PARITY);
        }
        earlier = 0;
    }
    return 0;
}

KERNEL(fec_frame)
{
    Py_ssize_t size, data, earlier;
    uint32_t first;
    Py_buffer run, matrix;

    if (!has_arguments("fec_frame", nargs, 6) || as_size(args[2], &size)
        || as_word(args[3], &first) || as_size(args[4], &data)
        || (earlier = PySequence_Size(args[0])) < 0
        || PyObject_GetBuffer(args[1], &run, PyBUF_SIMPLE))
        return NULL;
    if (PyObject_GetBuffer(args[5], &matrix, PyBUF_SIMPLE)) {
        PyBuffer_Release(&run);
        return NULL;
    }
    PyObject *out = NULL;
    if (size <= 0 || size > 0xFFFF - BODY || run.len % size)
        refuse("the run must be of whole datagrams");
    else if (data < 1 || earlier >= data || matrix.len % data)
        refuse("the matrix must have a column for each data packet");
    else {
        Group group = {matrix.buf, data, matrix.len / data, 0, (size_t)(size + BODY - CODED)};
        Py_ssize_t count = run.len / size;
        Py_ssize_t packets = count + (earlier + count) / data * group.parity;
        if (packets > PY_SSIZE_T_MAX / (size + BODY))
            PyErr_NoMemory();
        else
            out = PyBytes_FromStringAndSize(NULL, packets * (size + BODY));
        if (out != NULL
            && frame(&group, (unsigned char *)PyBytes_AsString(out), &run, size, first, args[0],
                     earlier)) {
            Py_DECREF(out);
            out = NULL;
        }
    }
    PyBuffer_Release(&matrix);
    PyBuffer_Release(&run);
    return out;
}
