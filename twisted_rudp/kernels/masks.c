/*
 * The masks of packet numbers: see masks.py.
 */
#include "native.h"

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

KERNEL(sn_masks)
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
