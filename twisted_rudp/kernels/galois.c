/*
 * Reed-Solomon over GF(2^8) with the polynomial 0x11D: a product is the sum of the
 * products of its two halves of four bits, so a shuffle instruction looks up 16 or 32
 * bytes at once.
 */
#include "native.h"

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

#ifdef HAS_X86

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

multiply_add best_multiply_add = multiply_add_table;

void
prepare_galois(void)
{
    fill_products();
#ifdef HAS_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2"))
        best_multiply_add = multiply_add_avx2;
    else if (__builtin_cpu_supports("ssse3"))
        best_multiply_add = multiply_add_ssse3;
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

KERNEL(gf_matmul)
{
    return gf_matmul_by(best_multiply_add, args, nargs);
}

/* The other ways to the same result, for the tests of this file. */
KERNEL(gf_matmul_table)
{
    return gf_matmul_by(multiply_add_table, args, nargs);
}

#ifdef HAS_X86
KERNEL(gf_matmul_ssse3)
{
    multiply_add add = __builtin_cpu_supports("ssse3") ? multiply_add_ssse3 : best_multiply_add;
    return gf_matmul_by(add, args, nargs);
}
#endif
