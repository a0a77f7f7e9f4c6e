/*
 * The framing of encrypted datagrams, whole runs at a time: 16 random bytes, a
 * CRC-32, the datagram; and the padding that a running cipher needs.
 */
#include "native.h"

enum { NONCE = 16, OVERHEAD = 20 };

/*
 * CRC-32 as zlib has it, eight bytes at a time; carry-less multiplication, where
 * the processor has it, first folds a long buffer to 16 bytes of the same remainder.
 */
static uint32_t remainder_of[8][256];

static uint32_t
advance(uint32_t state, const unsigned char *at, size_t length)
{
    for (; length >= 8; length -= 8, at += 8) {
        uint32_t low = state ^ get32(at), high = get32(at + 4);
        state = remainder_of[7][low & 0xFF] ^ remainder_of[6][low >> 8 & 0xFF]
                ^ remainder_of[5][low >> 16 & 0xFF] ^ remainder_of[4][low >> 24]
                ^ remainder_of[3][high & 0xFF] ^ remainder_of[2][high >> 8 & 0xFF]
                ^ remainder_of[1][high >> 16 & 0xFF] ^ remainder_of[0][high >> 24];
    }
    while (length--)
        state = remainder_of[0][(state ^ *at++) & 0xFF] ^ state >> 8;
    return state;
}

static uint32_t (*best_advance)(uint32_t, const unsigned char *, size_t) = advance;

#ifdef HAS_X86
#define SHORTEST_FOLD 128

__attribute__((target("pclmul,sse4.1"))) static inline __m128i
fold(__m128i value, __m128i by, __m128i next)
{
    return _mm_xor_si128(next, _mm_xor_si128(_mm_clmulepi64_si128(value, by, 0x00),
                                             _mm_clmulepi64_si128(value, by, 0x11)));
}

__attribute__((target("pclmul,sse4.1"))) static uint32_t
advance_by_folding(uint32_t state, const unsigned char *at, size_t length)
{
    if (length < SHORTEST_FOLD)
        return advance(state, at, length);
    /* x^(D+32) and x^(D-32) modulo the polynomial, bits reversed, for D = 512 and 128. */
    const __m128i by_64 = _mm_set_epi64x(0x1C6E41596, 0x154442BD4);
    const __m128i by_16 = _mm_set_epi64x(0x0CCAA009E, 0x1751997D0);
    const __m128i *from = (const __m128i *)at;
    __m128i lane[4];
    for (int i = 0; i < 4; i++)
        lane[i] = _mm_loadu_si128(from++);
    lane[0] = _mm_xor_si128(lane[0], _mm_cvtsi32_si128((int)state));
    for (length -= 64; length >= 64; length -= 64)
        for (int i = 0; i < 4; i++)
            lane[i] = fold(lane[i], by_64, _mm_loadu_si128(from++));
    for (int i = 1; i < 4; i++)
        lane[i] = fold(lane[i - 1], by_16, lane[i]);
    for (; length >= 16; length -= 16)
        lane[3] = fold(lane[3], by_16, _mm_loadu_si128(from++));
    unsigned char folded[16];
    _mm_storeu_si128((__m128i *)folded, lane[3]);
    return advance(advance(0, folded, 16), (const unsigned char *)from, length);
}
#endif

void
prepare_checksum(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t value = byte;
        for (int bit = 0; bit < 8; bit++)
            value = value >> 1 ^ (value & 1 ? 0xEDB88320 : 0);
        remainder_of[0][byte] = value;
    }
    for (int row = 1; row < 8; row++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t value = remainder_of[row - 1][byte];
            remainder_of[row][byte] = remainder_of[0][value & 0xFF] ^ value >> 8;
        }
#ifdef HAS_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"))
        best_advance = advance_by_folding;
#endif
}

static uint32_t
checksum(const unsigned char *at, Py_ssize_t length)
{
    return ~best_advance(0xFFFFFFFF, at, (size_t)length);
}

static Py_ssize_t
padding(Py_ssize_t length, Py_ssize_t block)
{
    return (block - length % block) % block;
}

/* Each datagram after a lead and before zeros that fill its last block. */
static PyObject *
new_spread(Py_ssize_t total, Py_ssize_t size, Py_ssize_t lead, Py_ssize_t filled, Py_ssize_t block)
{
    Py_ssize_t count = count_of(total, size), worst = lead + block;
    if (lead > PY_SSIZE_T_MAX - block || (count && worst > (PY_SSIZE_T_MAX - total) / count))
        return PyErr_NoMemory();
    if (!count)
        return PyBytes_FromStringAndSize(NULL, 0);
    Py_ssize_t last = total - (count - 1) * size;
    return PyBytes_FromStringAndSize(NULL, (count - 1) * (lead + size + padding(filled + size, block))
                                               + lead + last + padding(filled + last, block));
}

KERNEL(check_frame)
{
    Py_ssize_t size, block;
    Py_buffer run, nonces;

    if (!has_arguments("check_frame", nargs, 4) || as_size(args[1], &size)
        || as_size(args[3], &block) || PyObject_GetBuffer(args[0], &run, PyBUF_SIMPLE))
        return NULL;
    if (PyObject_GetBuffer(args[2], &nonces, PyBUF_SIMPLE)) {
        PyBuffer_Release(&run);
        return NULL;
    }
    PyObject *framed = NULL;
    if (size <= 0 || block <= 0 || nonces.len % NONCE
        || nonces.len / NONCE != count_of(run.len, size))
        refuse("there must be a nonce for each datagram");
    else
        framed = new_spread(run.len, size, OVERHEAD, OVERHEAD, block);
    if (framed != NULL) {
        unsigned char *out = (unsigned char *)PyBytes_AsString(framed);
        const unsigned char *nonce = nonces.buf, *from = run.buf;
        for (Py_ssize_t left = run.len; left > 0; left -= size, from += size, nonce += NONCE) {
            Py_ssize_t length = size < left ? size : left;
            Py_ssize_t pad = padding(OVERHEAD + length, block);
            memcpy(out, nonce, NONCE);
            put32(out + NONCE, checksum(from, length));
            memcpy(out + OVERHEAD, from, (size_t)length);
            memset(out + OVERHEAD + length, 0, (size_t)pad);
            out += OVERHEAD + length + pad;
            if (size > left)
                break;
        }
    }
    PyBuffer_Release(&nonces);
    PyBuffer_Release(&run);
    return framed;
}

KERNEL(spread_run)
{
    Py_ssize_t size, block;
    Py_buffer run, lead;

    if (!has_arguments("spread_run", nargs, 4) || as_size(args[1], &size)
        || as_size(args[3], &block) || PyObject_GetBuffer(args[0], &run, PyBUF_SIMPLE))
        return NULL;
    if (PyObject_GetBuffer(args[2], &lead, PyBUF_SIMPLE)) {
        PyBuffer_Release(&run);
        return NULL;
    }
    PyObject *spread = NULL;
    if (size <= 0 || block <= 0)
        refuse("size and block must be positive");
    else
        spread = new_spread(run.len, size, lead.len, 0, block);
    if (spread != NULL) {
        unsigned char *out = (unsigned char *)PyBytes_AsString(spread);
        const unsigned char *from = run.buf;
        for (Py_ssize_t left = run.len; left > 0; left -= size, from += size) {
            Py_ssize_t length = size < left ? size : left, pad = padding(length, block);
            memcpy(out, lead.buf, (size_t)lead.len);
            memcpy(out + lead.len, from, (size_t)length);
            memset(out + lead.len + length, 0, (size_t)pad);
            out += lead.len + length + pad;
            if (size > left)
                break;
        }
    }
    PyBuffer_Release(&lead);
    PyBuffer_Release(&run);
    return spread;
}

/* Whether pieces of size bytes, stride apart, total in all, lie within a buffer. */
static int
lie_within(Py_ssize_t there, Py_ssize_t stride, Py_ssize_t offset, Py_ssize_t size,
           Py_ssize_t total)
{
    if (size <= 0 || offset < 0 || total < 0 || stride < size)
        return 0;
    if (!total)
        return 1;
    Py_ssize_t before = count_of(total, size) - 1, last = total - before * size;
    return offset <= there - last && before <= (there - last - offset) / stride;
}

KERNEL(gather_run)
{
    Py_ssize_t stride, offset, size, total;
    Py_buffer spread;

    if (!has_arguments("gather_run", nargs, 5) || as_size(args[1], &stride)
        || as_size(args[2], &offset) || as_size(args[3], &size) || as_size(args[4], &total)
        || PyObject_GetBuffer(args[0], &spread, PyBUF_SIMPLE))
        return NULL;
    PyObject *run = NULL;
    if (!lie_within(spread.len, stride, offset, size, total))
        refuse("the pieces do not lie within the buffer");
    else
        run = PyBytes_FromStringAndSize(NULL, total);
    if (run != NULL) {
        unsigned char *out = (unsigned char *)PyBytes_AsString(run);
        const unsigned char *from = (const unsigned char *)spread.buf + offset;
        Py_ssize_t count = count_of(total, size);
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_ssize_t left = total - i * size;
            memcpy(out + i * size, from + i * stride, (size_t)(size < left ? size : left));
        }
    }
    PyBuffer_Release(&spread);
    return run;
}

KERNEL(check_take)
{
    Py_ssize_t stride, offset, size, total;
    Py_buffer spread;

    if (!has_arguments("check_take", nargs, 5) || as_size(args[1], &stride)
        || as_size(args[2], &offset) || as_size(args[3], &size) || as_size(args[4], &total)
        || PyObject_GetBuffer(args[0], &spread, PyBUF_SIMPLE))
        return NULL;
    if (!lie_within(spread.len, stride, offset, size, total)) {
        PyBuffer_Release(&spread);
        return refuse("the pieces do not lie within the buffer");
    }
    const unsigned char *from = (const unsigned char *)spread.buf + offset;
    Py_ssize_t count = count_of(total, size), taken = 0;
    PyObject *wrong = PyList_New(0);
    for (Py_ssize_t i = 0; wrong != NULL && i < count; i++) {
        const unsigned char *at = from + i * stride;
        Py_ssize_t left = total - i * size, length = (size < left ? size : left) - OVERHEAD;
        if (length > 0 && checksum(at + OVERHEAD, length) == get32(at + NONCE)) {
            taken += length;
            continue;
        }
        PyObject *index = PyLong_FromSsize_t(i);
        if (index == NULL || PyList_Append(wrong, index))
            Py_CLEAR(wrong);
        Py_XDECREF(index);
    }
    PyObject *run = wrong == NULL ? NULL : PyBytes_FromStringAndSize(NULL, taken);
    if (run != NULL) {
        unsigned char *out = (unsigned char *)PyBytes_AsString(run);
        Py_ssize_t next = 0, failures = PyList_Size(wrong);
        for (Py_ssize_t i = 0; i < count; i++) {
            Py_ssize_t left = total - i * size, length = (size < left ? size : left) - OVERHEAD;
            if (next < failures && PyLong_AsSsize_t(PyList_GetItem(wrong, next)) == i) {
                next++;
                continue;
            }
            memcpy(out, from + i * stride + OVERHEAD, (size_t)length);
            out += length;
        }
    }
    PyBuffer_Release(&spread);
    if (run == NULL) {
        Py_XDECREF(wrong);
        return NULL;
    }
    return Py_BuildValue("NN", run, wrong);
}
