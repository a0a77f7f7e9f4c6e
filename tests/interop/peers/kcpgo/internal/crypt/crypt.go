// Package crypt finds kcp-go's ciphers by the names that kcptun uses.
package crypt

import (
	"encoding/hex"
	"fmt"

	kcp "github.com/xtaci/kcp-go/v5"
)

type maker struct {
	keySize int // of the 32 bytes that kcptun derives; 0: all that there are
	make    func(key []byte) (kcp.BlockCrypt, error)
}

var makers = map[string]maker{
	"aes":         {32, kcp.NewAESBlockCrypt},
	"aes-128":     {16, kcp.NewAESBlockCrypt},
	"aes-192":     {24, kcp.NewAESBlockCrypt},
	"aes-128-gcm": {16, kcp.NewAESGCMCrypt},
	"aes-192-gcm": {24, kcp.NewAESGCMCrypt},
	"aes-256-gcm": {32, kcp.NewAESGCMCrypt},
	"blowfish":    {32, kcp.NewBlowfishBlockCrypt},
	"cast5":       {16, kcp.NewCast5BlockCrypt},
	"3des":        {24, kcp.NewTripleDESBlockCrypt},
	"none":        {0, kcp.NewNoneBlockCrypt},
	"salsa20":     {32, kcp.NewSalsa20BlockCrypt},
	"sm4":         {16, kcp.NewSM4BlockCrypt},
	"tea":         {16, kcp.NewTEABlockCrypt},
	"twofish":     {32, kcp.NewTwofishBlockCrypt},
	"xor":         {0, kcp.NewSimpleXORBlockCrypt},
	"xtea":        {16, kcp.NewXTEABlockCrypt},
}

// New makes the cipher of this name; "null" is none at all, without a header.
// hexKey may be longer than the cipher takes: the first bytes count.
func New(name, hexKey string) (kcp.BlockCrypt, error) {
	if name == "null" {
		return nil, nil
	}
	m, known := makers[name]
	if !known {
		return nil, fmt.Errorf("no cipher is named %q", name)
	}
	key, err := hex.DecodeString(hexKey)
	if err != nil {
		return nil, fmt.Errorf("the key is not hexadecimal: %w", err)
	}
	if len(key) < m.keySize {
		return nil, fmt.Errorf("%s needs a key of %d bytes, not %d", name, m.keySize, len(key))
	}
	if m.keySize > 0 {
		key = key[:m.keySize]
	}
	return m.make(key)
}
