/*
 * The kernels of pure.py, which is their specification, in C.
 *
 * Limited API of Python 3.11, so that one binary serves all later versions.
 * Fields are written and read byte by byte: no alignment, byte order or
 * aliasing is assumed. The functions keep no state and call no Python code
 * but __index__ of their arguments.
 */
#include "native.h"

#define HEADER 24
#define PUSH 81
#define MAXIMUM_PARTS 64

enum { CONV = 0, CMD = 4, FRG = 5, WND = 6, TS = 8, SN = 12, UNA = 16, LEN = 20 };

/* One buffer, or those of a tuple; all or none are held. */
static Py_ssize_t
hold_parts(PyObject *data, Py_buffer *parts)
{
    int many = PyTuple_Check(data);
    Py_ssize_t count = many ? PyTuple_Size(data) : 1;
    if (count > MAXIMUM_PARTS) {
        /* What cannot be a part is the first complaint of the pure kernel too. */
        for (Py_ssize_t i = 0; i < count; i++) {
            if (PyObject_GetBuffer(PyTuple_GetItem(data, i), parts, PyBUF_SIMPLE))
                return -1;
            PyBuffer_Release(parts);
        }
        return count;
    }
    for (Py_ssize_t i = 0; i < count; i++)
        if (PyObject_GetBuffer(many ? PyTuple_GetItem(data, i) : data, &parts[i],
                               PyBUF_SIMPLE)) {
            while (i-- > 0)
                PyBuffer_Release(&parts[i]);
            return -1;
        }
    return count;
}

static void
release_parts(Py_buffer *parts, Py_ssize_t count)
{
    while (count-- > 0)
        PyBuffer_Release(&parts[count]);
}

static PyObject *
build_run(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    uint32_t conv, wnd, ts, sn, una, frg;
    Py_ssize_t mss, held, size = 0;
    Py_buffer parts[MAXIMUM_PARTS];

    if (!has_arguments("build_run", nargs, 8) || as_word(args[0], &conv)
        || as_word(args[1], &wnd) || as_word(args[2], &ts) || as_word(args[3], &sn)
        || as_word(args[4], &una) || as_word(args[5], &frg) || as_size(args[6], &mss)
        || (held = hold_parts(args[7], parts)) < 0)
        return NULL;
    if (mss <= 0 || held > MAXIMUM_PARTS) {
        PyErr_SetString(PyExc_ValueError,
                        mss <= 0 ? "mss must be positive" : "too many parts");
        release_parts(parts, held > MAXIMUM_PARTS ? 0 : held);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < held; i++) {
        Py_ssize_t length = parts[i].len, count = length / mss + (length % mss != 0);
        if (length > PY_SSIZE_T_MAX - size
            || count > (PY_SSIZE_T_MAX - size - length) / HEADER) {
            release_parts(parts, held);
            return PyErr_NoMemory();
        }
        size += length + count * HEADER;
    }
    PyObject *run = PyBytes_FromStringAndSize(NULL, size);
    if (run != NULL) {
        unsigned char *out = (unsigned char *)PyBytes_AsString(run);
        frg &= 0xFF;
        for (Py_ssize_t i = 0; i < held; i++) {
            const unsigned char *from = parts[i].buf;
            Py_ssize_t left = parts[i].len;
            while (left > 0) {
                Py_ssize_t length = left < mss ? left : mss;
                put32(out + CONV, conv);
                out[CMD] = PUSH;
                out[FRG] = (unsigned char)frg;
                put16(out + WND, wnd);
                put32(out + TS, ts);
                put32(out + SN, sn);
                put32(out + UNA, una);
                put32(out + LEN, (uint32_t)length);
                memcpy(out + HEADER, from, (size_t)length);
                out += HEADER + length;
                from += length;
                left -= length;
                sn++;
                if (frg)
                    frg--;
            }
        }
    }
    release_parts(parts, held);
    return run;
}

static PyObject *
take_run(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    uint32_t conv, sn, ts = 0, wnd = 0, una = 0;
    Py_ssize_t size, limit, count = 0;
    Py_buffer run;

    if (!has_arguments("take_run", nargs, 5) || as_size(args[1], &size)
        || as_word(args[2], &conv) || as_word(args[3], &sn) || as_size(args[4], &limit)
        || PyObject_GetBuffer(args[0], &run, PyBUF_SIMPLE))
        return NULL;
    const unsigned char *from = run.buf;
    Py_ssize_t length = size > HEADER ? size - HEADER : 0;
    Py_ssize_t whole = length ? run.len / size : 0;
    if (whole > limit)
        whole = limit;
    for (; count < whole; count++) {
        const unsigned char *at = from + count * size;
        if (get32(at + SN) != (uint32_t)(sn + (uint32_t)count) || at[CMD] != PUSH || at[FRG]
            || get32(at + CONV) != conv || get32(at + LEN) != (uint64_t)length)
            break;
    }
    PyObject *payload = PyBytes_FromStringAndSize(NULL, count * length);
    if (payload != NULL && count > 0) {
        unsigned char *out = (unsigned char *)PyBytes_AsString(payload);
        const unsigned char *last = from + (count - 1) * size;
        ts = get32(last + TS);
        wnd = get16(last + WND);
        una = get32(last + UNA);
        for (Py_ssize_t i = 0; i < count; i++)
            memcpy(out + i * length, from + i * size + HEADER, (size_t)length);
    }
    PyBuffer_Release(&run);
    if (payload == NULL)
        return NULL;
    return Py_BuildValue("nNkkk", count, payload, (unsigned long)ts, (unsigned long)wnd,
                         (unsigned long)una);
}

static PyObject *
same_column(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t size, offset, width;
    Py_buffer run;

    if (!has_arguments("same_column", nargs, 4) || as_size(args[1], &size)
        || as_size(args[2], &offset) || as_size(args[3], &width)
        || PyObject_GetBuffer(args[0], &run, PyBUF_SIMPLE))
        return NULL;
    if (size <= 0 || width <= 0 || offset < 0) {
        PyBuffer_Release(&run);
        PyErr_SetString(PyExc_ValueError,
                        "size and width must be positive and offset not negative");
        return NULL;
    }
    const unsigned char *first = run.buf;
    Py_ssize_t count = 0, shortest = size < run.len ? size : run.len;
    if (offset <= shortest && width <= shortest - offset) {
        Py_ssize_t last_start = run.len - offset - width;
        first += offset;
        count = 1;
        while (count <= last_start / size
               && memcmp(first, first + count * size, (size_t)width) == 0)
            count++;
    }
    PyBuffer_Release(&run);
    return PyLong_FromSsize_t(count);
}

#define ENTRY(name) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, NULL}

static PyMethodDef methods[] = {
    ENTRY(build_run),
    ENTRY(check_frame),
    ENTRY(check_take),
    ENTRY(fec_conversation),
    ENTRY(fec_frame),
    ENTRY(fec_take),
    ENTRY(frame_messages),
    ENTRY(frame_stream),
    ENTRY(gather_run),
    ENTRY(gf_matmul),
    ENTRY(gf_matmul_table),
#ifdef HAS_X86
    ENTRY(gf_matmul_ssse3),
#endif
#ifdef HAS_MMSG
    ENTRY(receive_batch),
#endif
    ENTRY(same_column),
#ifdef HAS_MMSG
    ENTRY(send_batch),
#endif
    ENTRY(sn_masks),
    ENTRY(spread_run),
    ENTRY(take_messages),
    ENTRY(take_run),
    ENTRY(take_stream),
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "twisted_rudp.kernels._native",
    .m_doc = "The kernels of twisted_rudp.kernels.pure in C.",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    prepare_galois();
    prepare_checksum();
    return PyModuleDef_Init(&definition);
}
