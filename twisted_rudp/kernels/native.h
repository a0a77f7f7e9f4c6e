/*
 * What the files of the extension share.
 */
#ifndef TWISTED_RUDP_NATIVE_H
#define TWISTED_RUDP_NATIVE_H

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_X86 1
#include <immintrin.h>
#endif

#define KERNEL(name) \
    PyObject *name(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)

KERNEL(gf_matmul);
KERNEL(gf_matmul_table);
#ifdef HAS_X86
KERNEL(gf_matmul_ssse3);
#endif
KERNEL(fec_conversation);
KERNEL(fec_frame);
KERNEL(fec_take);
KERNEL(frame_messages);
KERNEL(frame_stream);
KERNEL(take_messages);
KERNEL(take_stream);
KERNEL(check_frame);
KERNEL(check_take);
KERNEL(gather_run);
KERNEL(sn_masks);
KERNEL(spread_run);
#ifdef __linux__
#define HAS_MMSG 1
KERNEL(receive_batch);
KERNEL(send_batch);
#endif

/*
 * out ^= factor * in over GF(2^8), for a whole shard at a time.
 */
typedef void (*multiply_add)(unsigned char *out, const unsigned char *in, size_t length,
                             unsigned char factor);

/* The way this processor does best; set when the module is loaded. */
extern multiply_add best_multiply_add;

void prepare_galois(void);
void prepare_checksum(void);

static inline void
put16(unsigned char *at, uint32_t value)
{
    at[0] = (unsigned char)value;
    at[1] = (unsigned char)(value >> 8);
}

static inline void
put32(unsigned char *at, uint32_t value)
{
    put16(at, value);
    put16(at + 2, value >> 16);
}

static inline uint32_t
get16(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static inline uint32_t
get32(const unsigned char *at)
{
    return get16(at) | get16(at + 2) << 16;
}

/* An integer modulo 2^32. */
static inline int
as_word(PyObject *object, uint32_t *value)
{
    unsigned long long wide = PyLong_AsUnsignedLongLongMask(object);
    if (wide == (unsigned long long)-1 && PyErr_Occurred())
        return -1;
    *value = (uint32_t)wide;
    return 0;
}

/* A length or an index; what does not fit becomes the nearest that does. */
static inline int
as_size(PyObject *object, Py_ssize_t *value)
{
    *value = PyNumber_AsSsize_t(object, NULL);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static inline int
has_arguments(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd positional arguments but %zd were given",
                 name, wanted, given);
    return 0;
}

/* How many datagrams of this size a run holds, a shorter last one included. */
static inline Py_ssize_t
count_of(Py_ssize_t total, Py_ssize_t size)
{
    return total / size + (total % size != 0);
}

static inline PyObject *
refuse(const char *why)
{
    PyErr_SetString(PyExc_ValueError, why);
    return NULL;
}

#endif
