/*
 * The kernels of pure.py, which is their specification, in C.
 *
 * Limited API of Python 3.11, so that one binary serves all later versions.
 * Fields are written and read byte by byte: no alignment, byte order or
 * aliasing is assumed. The functions keep no state and call no Python code
 * but __index__ of their arguments.
 */
#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define HEADER 24
#define PUSH 81
#define MAXIMUM_PARTS 64

enum { CONV = 0, CMD = 4, FRG = 5, WND = 6, TS = 8, SN = 12, UNA = 16, LEN = 20 };

static void
put16(unsigned char *at, uint32_t value)
{
    at[0] = (unsigned char)value;
    at[1] = (unsigned char)(value >> 8);
}

static void
put32(unsigned char *at, uint32_t value)
{
    put16(at, value);
    put16(at + 2, value >> 16);
}

static uint32_t
get16(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t
get32(const unsigned char *at)
{
    return get16(at) | get16(at + 2) << 16;
}

/* An integer modulo 2^32. */
static int
as_word(PyObject *object, uint32_t *value)
{
    unsigned long long wide = PyLong_AsUnsignedLongLongMask(object);
    if (wide == (unsigned long long)-1 && PyErr_Occurred())
        return -1;
    *value = (uint32_t)wide;
    return 0;
}

/* A length or an index; what does not fit becomes the nearest that does. */
static int
as_size(PyObject *object, Py_ssize_t *value)
{
    *value = PyNumber_AsSsize_t(object, NULL);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static int
has_arguments(const char *name, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted)
        return 1;
    PyErr_Format(PyExc_TypeError, "%s() takes %zd positional arguments but %zd were given",
                 name, wanted, given);
    return 0;
}

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

/*
 * ChaCha20's rounds (RFC 8439 section 2.3) on sixteen words: additions, rotations by
 * constants and exclusive ors only, so that the time taken tells nothing of the key.
 */
#define ROTATE(word, by) ((word) << (by) | (word) >> (32 - (by)))
#define QUARTER(a, b, c, d)                                                              \
    do {                                                                                 \
        a += b; d = ROTATE(d ^ a, 16);                                                   \
        c += d; b = ROTATE(b ^ c, 12);                                                   \
        a += b; d = ROTATE(d ^ a, 8);                                                    \
        c += d; b = ROTATE(b ^ c, 7);                                                    \
    } while (0)

static void
chacha_rounds(uint32_t x[16])
{
    for (int i = 0; i < 10; i++) {
        QUARTER(x[0], x[4], x[8], x[12]);
        QUARTER(x[1], x[5], x[9], x[13]);
        QUARTER(x[2], x[6], x[10], x[14]);
        QUARTER(x[3], x[7], x[11], x[15]);
        QUARTER(x[0], x[5], x[10], x[15]);
        QUARTER(x[1], x[6], x[11], x[12]);
        QUARTER(x[2], x[7], x[8], x[13]);
        QUARTER(x[3], x[4], x[9], x[14]);
    }
}

static void
chacha_constants(uint32_t x[16])
{
    x[0] = 0x61707865;
    x[1] = 0x3320646e;
    x[2] = 0x79622d32;
    x[3] = 0x6b206574;
}

/* Six bytes of XChaCha20's keystream from block 1 on: a subkey from the first sixteen
 * bytes of the nonce (HChaCha20), then a block with the other eight. */
static void
mask_of(const uint32_t key[8], const unsigned char *nonce, unsigned char *out)
{
    uint32_t x[16], first, second;

    chacha_constants(x);
    for (int i = 0; i < 8; i++)
        x[4 + i] = key[i];
    for (int i = 0; i < 4; i++)
        x[12 + i] = get32(nonce + 4 * i);
    chacha_rounds(x);
    for (int i = 0; i < 4; i++) {
        x[4 + i] = x[i];
        x[8 + i] = x[12 + i];
    }
    chacha_constants(x);
    first = x[0];
    second = x[1];
    x[12] = 1;
    x[13] = 0;
    x[14] = get32(nonce + 16);
    x[15] = get32(nonce + 20);
    chacha_rounds(x);
    put32(out, x[0] + first);
    put32(out + 4, (x[1] + second) & 0xFFFF);
}

static PyObject *
sn_masks(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    Py_buffer key, run;
    Py_ssize_t size, at;
    PyObject *masks = NULL;

    if (!has_arguments("sn_masks", nargs, 4) || as_size(args[2], &size)
        || as_size(args[3], &at) || PyObject_GetBuffer(args[0], &key, PyBUF_SIMPLE))
        return NULL;
    if (PyObject_GetBuffer(args[1], &run, PyBUF_SIMPLE)) {
        PyBuffer_Release(&key);
        return NULL;
    }
    if (size <= 0 || at < 0 || key.len != 32) {
        PyErr_SetString(PyExc_ValueError,
                        "size must be positive, at not negative and the key 32 bytes");
    } else {
        Py_ssize_t count = 0;
        if (size >= 24 && at <= size - 24 && run.len >= 24 && at <= run.len - 24)
            count = (run.len - 24 - at) / size + 1;
        masks = PyBytes_FromStringAndSize(NULL, count * 8);
        if (masks != NULL) {
            unsigned char *out = (unsigned char *)PyBytes_AsString(masks);
            const unsigned char *from = run.buf;
            uint32_t words[8];
            for (int i = 0; i < 8; i++)
                words[i] = get32((const unsigned char *)key.buf + 4 * i);
            for (Py_ssize_t i = 0; i < count; i++)
                mask_of(words, from + i * size + at, out + i * 8);
        }
    }
    PyBuffer_Release(&run);
    PyBuffer_Release(&key);
    return masks;
}

/*
 * Reed-Solomon over GF(2^8) with the polynomial 0x11D: out ^= factor * in, for
 * a whole shard at a time. A product is the sum of the products of its two
 * halves of four bits, so a shuffle instruction looks up 16 or 32 bytes at once.
 */
typedef void (*multiply_add)(unsigned char *out, const unsigned char *in, size_t length,
                             unsigned char factor);

static unsigned char product[256][256];

static void
fill_products(void)
{
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++) {
            unsigned sum = 0, x = a;
            for (unsigned bits = b; bits; bits >>= 1) {
                if (bits & 1)
                    sum ^= x;
                x = x << 1 ^ (x & 0x80 ? 0x11D : 0);
            }
            product[a][b] = (unsigned char)sum;
        }
}

static void
multiply_add_table(unsigned char *out, const unsigned char *in, size_t length,
                   unsigned char factor)
{
    const unsigned char *row = product[factor];
    for (size_t i = 0; i < length; i++)
        out[i] ^= row[in[i]];
}

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_SHUFFLE 1
#include <immintrin.h>

static void
halves(unsigned char factor, unsigned char low[16], unsigned char high[16])
{
    for (int i = 0; i < 16; i++) {
        low[i] = product[factor][i];
        high[i] = product[factor][i << 4];
    }
}

__attribute__((target("ssse3"))) static void
multiply_add_ssse3(unsigned char *out, const unsigned char *in, size_t length,
                   unsigned char factor)
{
    unsigned char low_bytes[16], high_bytes[16];
    halves(factor, low_bytes, high_bytes);
    const __m128i low = _mm_loadu_si128((const __m128i *)low_bytes);
    const __m128i high = _mm_loadu_si128((const __m128i *)high_bytes);
    const __m128i mask = _mm_set1_epi8(15);
    size_t i = 0;
    for (; i + 16 <= length; i += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(in + i));
        __m128i y = _mm_loadu_si128((const __m128i *)(out + i));
        __m128i l = _mm_shuffle_epi8(low, _mm_and_si128(x, mask));
        __m128i h = _mm_shuffle_epi8(high, _mm_and_si128(_mm_srli_epi64(x, 4), mask));
        _mm_storeu_si128((__m128i *)(out + i), _mm_xor_si128(y, _mm_xor_si128(l, h)));
    }
    multiply_add_table(out + i, in + i, length - i, factor);
}

__attribute__((target("avx2"))) static void
multiply_add_avx2(unsigned char *out, const unsigned char *in, size_t length,
                  unsigned char factor)
{
    unsigned char low_bytes[16], high_bytes[16];
    halves(factor, low_bytes, high_bytes);
    const __m256i low =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)low_bytes));
    const __m256i high =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)high_bytes));
    const __m256i mask = _mm256_set1_epi8(15);
    size_t i = 0;
    for (; i + 32 <= length; i += 32) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(in + i));
        __m256i y = _mm256_loadu_si256((const __m256i *)(out + i));
        __m256i l = _mm256_shuffle_epi8(low, _mm256_and_si256(x, mask));
        __m256i h = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi64(x, 4), mask));
        _mm256_storeu_si256((__m256i *)(out + i),
                            _mm256_xor_si256(y, _mm256_xor_si256(l, h)));
    }
    multiply_add_table(out + i, in + i, length - i, factor);
}
#endif

/* What the processor can do best; set once when the module is loaded. */
static multiply_add best = multiply_add_table;

static void
choose_best(void)
{
#ifdef HAS_SHUFFLE
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        best = multiply_add_avx2;
    else if (__builtin_cpu_supports("ssse3"))
        best = multiply_add_ssse3;
#endif
}

static int
add_shards(multiply_add add, unsigned char *out, const unsigned char *factors, PyObject *shards,
        Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t length)
{
    for (Py_ssize_t c = 0; c < columns; c++) {
        Py_buffer shard;
        PyObject *object = PySequence_GetItem(shards, c);
        if (object == NULL)
            return -1;
        int failed = PyObject_GetBuffer(object, &shard, PyBUF_SIMPLE);
        Py_DECREF(object);
        if (failed)
            return -1;
        if (shard.len > length) {
            PyBuffer_Release(&shard);
            PyErr_SetString(PyExc_ValueError, "a shard is longer than length");
            return -1;
        }
        for (Py_ssize_t r = 0; r < rows; r++)
            if (factors[r * columns + c])
                add(out + r * length, shard.buf, (size_t)shard.len, factors[r * columns + c]);
        PyBuffer_Release(&shard);
    }
    return 0;
}

static PyObject *
gf_matmul_by(multiply_add add, PyObject *const *args, Py_ssize_t nargs)
{
    Py_ssize_t length;
    Py_buffer matrix;

    if (!has_arguments("gf_matmul", nargs, 3) || as_size(args[2], &length)
        || PyObject_GetBuffer(args[0], &matrix, PyBUF_SIMPLE))
        return NULL;
    PyObject *out = NULL;
    Py_ssize_t columns = PySequence_Size(args[1]);
    if (columns < 0)
        ;
    else if (length < 0 || columns == 0 || matrix.len % columns)
        PyErr_SetString(PyExc_ValueError, "the matrix must have a column for each shard");
    else {
        Py_ssize_t rows = matrix.len / columns;
        if (length && rows > PY_SSIZE_T_MAX / length)
            PyErr_NoMemory();
        else
            out = PyBytes_FromStringAndSize(NULL, rows * length);
        if (out != NULL) {
            unsigned char *to = (unsigned char *)PyBytes_AsString(out);
            memset(to, 0, (size_t)(rows * length));
            if (add_shards(add, to, matrix.buf, args[1], rows, columns, length)) {
                Py_DECREF(out);
                out = NULL;
            }
        }
    }
    PyBuffer_Release(&matrix);
    return out;
}

static PyObject *
gf_matmul(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    return gf_matmul_by(best, args, nargs);
}

/* The other ways to the same result, for the tests of this file. */
static PyObject *
gf_matmul_table(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    return gf_matmul_by(multiply_add_table, args, nargs);
}

#ifdef HAS_SHUFFLE
static PyObject *
gf_matmul_ssse3(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    multiply_add add = __builtin_cpu_supports("ssse3") ? multiply_add_ssse3 : best;
    return gf_matmul_by(add, args, nargs);
}
#endif

static PyMethodDef methods[] = {
    {"sn_masks", (PyCFunction)(void (*)(void))sn_masks, METH_FASTCALL, NULL},
    {"gf_matmul", (PyCFunction)(void (*)(void))gf_matmul, METH_FASTCALL, NULL},
    {"gf_matmul_table", (PyCFunction)(void (*)(void))gf_matmul_table, METH_FASTCALL, NULL},
#ifdef HAS_SHUFFLE
    {"gf_matmul_ssse3", (PyCFunction)(void (*)(void))gf_matmul_ssse3, METH_FASTCALL, NULL},
#endif
    {"build_run", (PyCFunction)(void (*)(void))build_run, METH_FASTCALL, NULL},
    {"take_run", (PyCFunction)(void (*)(void))take_run, METH_FASTCALL, NULL},
    {"same_column", (PyCFunction)(void (*)(void))same_column, METH_FASTCALL, NULL},
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
    fill_products();
    choose_best();
    return PyModuleDef_Init(&definition);
}
