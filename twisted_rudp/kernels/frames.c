/*
 * RakNet's bulk data: the kernels of pure_frames.py, which is their specification.
 */
#include "native.h"

#define DATAGRAM_HEADER 4
#define FRAME_HEADER 10
#define LEAD (DATAGRAM_HEADER + FRAME_HEADER)
#define LONGEST (0xFFFF >> 3)
#define FLAGS 0x60
#define MASK24 0xFFFFFFu

static inline void
put24(unsigned char *at, uint32_t value)
{
    put16(at, value);
    at[2] = (unsigned char)(value >> 16);
}

static inline uint32_t
get24(const unsigned char *at)
{
    return get16(at) | (uint32_t)at[2] << 16;
}

static inline unsigned char *
put_datagram(unsigned char *at, int continued, uint32_t number)
{
    at[0] = continued ? 0x8C : 0x84;
    put24(at + 1, number);
    return at + DATAGRAM_HEADER;
}

static inline unsigned char *
put_frame(unsigned char *at, Py_ssize_t size, uint32_t reliable, uint32_t order)
{
    at[0] = FLAGS;
    at[1] = (unsigned char)(size >> 5);
    at[2] = (unsigned char)(size << 3);
    put24(at + 3, reliable);
    put24(at + 6, order);
    at[9] = 0;
    return at + FRAME_HEADER;
}

/* The payload's length of a frame of this kind; 0 if there is none. */
static inline Py_ssize_t
length_at(const unsigned char *at, Py_ssize_t left, uint32_t reliable, uint32_t order)
{
    if (left < FRAME_HEADER || (at[0] & 0xF0) != FLAGS || get24(at + 3) != (reliable & MASK24)
        || get24(at + 6) != (order & MASK24) || at[9])
        return 0;
    return (((Py_ssize_t)at[1] << 8 | at[2]) + 7) >> 3;
}

static inline int
is_numbered(const unsigned char *at, uint32_t number)
{
    return (at[0] & 0xE0) == 0x80 && get24(at + 1) == (number & MASK24);
}

KERNEL(frame_stream)
{
    uint32_t number, reliable, order, user_id;
    Py_ssize_t mss;
    Py_buffer data;

    if (!has_arguments("frame_stream", nargs, 6) || as_word(args[0], &number)
        || as_word(args[1], &reliable) || as_word(args[2], &order)
        || as_word(args[3], &user_id) || as_size(args[4], &mss))
        return NULL;
    if (mss <= 0 || mss >= LONGEST)
        return refuse("mss must be 1 to 8190");
    if (PyObject_GetBuffer(args[5], &data, PyBUF_SIMPLE))
        return NULL;
    Py_ssize_t left = data.len, count = count_of(left, mss);
    if (count > (PY_SSIZE_T_MAX - left) / (LEAD + 1)) {
        PyBuffer_Release(&data);
        return PyErr_NoMemory();
    }
    PyObject *run = PyBytes_FromStringAndSize(NULL, left + count * (LEAD + 1));
    if (run != NULL) {
        unsigned char *out = (unsigned char *)PyBytes_AsString(run);
        const unsigned char *from = data.buf;
        for (uint32_t i = 0; left > 0; i++) {
            Py_ssize_t length = left < mss ? left : mss;
            out = put_datagram(out, i > 0, number + i);
            out = put_frame(out, length + 1, reliable + i, order + i);
            *out++ = (unsigned char)user_id;
            memcpy(out, from, (size_t)length);
            out += length;
            from += length;
            left -= length;
        }
    }
    PyBuffer_Release(&data);
    return run;
}

KERNEL(frame_messages)
{
    uint32_t number, reliable, order;
    Py_ssize_t per, size = 0;

    if (!has_arguments("frame_messages", nargs, 5) || as_word(args[0], &number)
        || as_word(args[1], &reliable) || as_word(args[2], &order) || as_size(args[3], &per))
        return NULL;
    PyObject *messages = args[4];
    if (!PyList_Check(messages)) {
        PyErr_SetString(PyExc_TypeError, "messages must be a list");
        return NULL;
    }
    if (per <= 0)
        return refuse("per must be positive");
    Py_ssize_t count = PyList_Size(messages);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *message = PyList_GetItem(messages, i);
        if (!PyBytes_Check(message)) {
            PyErr_SetString(PyExc_TypeError, "a message must be bytes");
            return NULL;
        }
        Py_ssize_t length = PyBytes_Size(message);
        if (length <= 0 || length > LONGEST)
            return refuse("a message must have 1 to 8191 bytes");
        size += FRAME_HEADER + length + (i % per == 0 ? DATAGRAM_HEADER : 0);
    }
    PyObject *run = PyBytes_FromStringAndSize(NULL, size);
    if (run == NULL)
        return NULL;
    unsigned char *out = (unsigned char *)PyBytes_AsString(run);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *message = PyList_GetItem(messages, i);
        Py_ssize_t length = PyBytes_Size(message);
        if (i % per == 0)
            out = put_datagram(out, i > 0, number++);
        out = put_frame(out, length, reliable + (uint32_t)i, order + (uint32_t)i);
        memcpy(out, PyBytes_AsString(message), (size_t)length);
        out += length;
    }
    return run;
}

KERNEL(take_stream)
{
    uint32_t number, reliable, order, user_id;
    Py_ssize_t size, count = 0;
    Py_buffer run;

    if (!has_arguments("take_stream", nargs, 6) || as_size(args[1], &size)
        || as_word(args[2], &number) || as_word(args[3], &reliable)
        || as_word(args[4], &order) || as_word(args[5], &user_id)
        || PyObject_GetBuffer(args[0], &run, PyBUF_SIMPLE))
        return NULL;
    const unsigned char *at = run.buf;
    Py_ssize_t left = size > 0 ? run.len : 0, total = 0;
    while (left > 0) {
        Py_ssize_t length = left < size ? left : size;
        uint32_t i = (uint32_t)count;
        if (length <= LEAD + 1 || !is_numbered(at, number + i)
            || length_at(at + DATAGRAM_HEADER, length - DATAGRAM_HEADER, reliable + i, order + i)
                   != length - LEAD
            || at[LEAD] != (unsigned char)user_id)
            break;
        count++;
        total += length - LEAD - 1;
        at += length;
        left -= length;
    }
    PyObject *payload = PyBytes_FromStringAndSize(NULL, total);
    if (payload != NULL) {
        unsigned char *out = (unsigned char *)PyBytes_AsString(payload);
        const unsigned char *from = run.buf;
        left = run.len;
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_ssize_t length = left < size ? left : size;
            memcpy(out, from + LEAD + 1, (size_t)(length - LEAD - 1));
            out += length - LEAD - 1;
            from += length;
            left -= length;
        }
    }
    PyBuffer_Release(&run);
    return payload == NULL ? NULL : Py_BuildValue("nN", count, payload);
}

/* How many messages a datagram holds; 0 if it is not as it should be. */
static Py_ssize_t
messages_in(const unsigned char *at, Py_ssize_t left, uint32_t reliable, uint32_t order,
            Py_ssize_t lowest)
{
    Py_ssize_t count = 0;
    while (left > 0) {
        uint32_t i = (uint32_t)count;
        Py_ssize_t length = length_at(at, left, reliable + i, order + i);
        at += FRAME_HEADER;
        left -= FRAME_HEADER;
        if (length == 0 || length > left || at[0] < lowest)
            return 0;
        at += length;
        left -= length;
        count++;
    }
    return count;
}

KERNEL(take_messages)
{
    uint32_t number, reliable, order;
    Py_ssize_t size, lowest, count = 0;
    Py_buffer run;

    if (!has_arguments("take_messages", nargs, 6) || as_size(args[1], &size)
        || as_word(args[2], &number) || as_word(args[3], &reliable)
        || as_word(args[4], &order) || as_size(args[5], &lowest)
        || PyObject_GetBuffer(args[0], &run, PyBUF_SIMPLE))
        return NULL;
    const unsigned char *at = run.buf;
    Py_ssize_t left = size > 0 ? run.len : 0;
    PyObject *messages = PyList_New(0);
    while (messages != NULL && left > 0) {
        Py_ssize_t length = left < size ? left : size, inside = 0;
        if (length > DATAGRAM_HEADER && is_numbered(at, number + (uint32_t)count))
            inside = messages_in(at + DATAGRAM_HEADER, length - DATAGRAM_HEADER, reliable,
                                 order, lowest);
        if (inside == 0)
            break;
        const unsigned char *frame = at + DATAGRAM_HEADER;
        for (Py_ssize_t i = 0; i < inside; i++) {
            Py_ssize_t bytes = (((Py_ssize_t)frame[1] << 8 | frame[2]) + 7) >> 3;
            PyObject *message =
                PyBytes_FromStringAndSize((const char *)frame + FRAME_HEADER, bytes);
            if (message == NULL || PyList_Append(messages, message)) {
                Py_XDECREF(message);
                Py_CLEAR(messages);
                break;
            }
            Py_DECREF(message);
            frame += FRAME_HEADER + bytes;
        }
        reliable += (uint32_t)inside;
        order += (uint32_t)inside;
        count++;
        at += length;
        left -= length;
    }
    PyBuffer_Release(&run);
    return messages == NULL ? NULL : Py_BuildValue("nN", count, messages);
}
