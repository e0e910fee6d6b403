package awswire

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSealer(t *testing.T) {
	s, err := NewSealer([]byte("0123456789abcdef"))
	require.NoError(t, err)
	for _, n := range []int{0, 1, 15, 16, 17, 200} {
		payload := strings.Repeat("\x00", n/2) + strings.Repeat("x", n-n/2)
		token := s.Seal([]byte(payload), 40)
		got, ok := s.Open(token)
		require.True(t, ok)
		require.Equal(t, payload, string(got))
		_, ok = s.Open(`"` + token + `"`)
		require.True(t, ok, "AWS takes it in quotes")
		require.NotEqual(t, token, s.Seal([]byte(payload), 40), "tokens of the same content differ")
		raw, err := base64.StdEncoding.DecodeString(token)
		require.NoError(t, err)
		require.Zero(t, (len(raw)-8)%16)
		for i := range raw {
			raw[i] ^= 1
			_, ok := s.Open(base64.StdEncoding.EncodeToString(raw))
			require.False(t, ok, "byte %d was changed", i)
			raw[i] ^= 1
		}
		for _, other := range []string{"", token[:len(token)-4], "\n" + token, token + "====", token[4:]} {
			_, ok = s.Open(other)
			require.False(t, ok, other)
		}
	}
	other, err := NewSealer([]byte("fedcba9876543210"))
	require.NoError(t, err)
	_, ok := other.Open(s.Seal(nil, 0))
	require.False(t, ok, "another key")
	_, err = NewSealer([]byte("short"))
	require.Error(t, err)
}

func TestPayload(t *testing.T) {
	s, err := NewSealer(make([]byte, SealKeySize))
	require.NoError(t, err)
	b := binary.AppendVarint(binary.AppendUvarint(AppendText([]byte{'k'}, "text"), 1<<40), -7)
	p := s.OpenPayload(s.Seal(b, 0))
	require.Equal(t, byte('k'), p.Byte())
	require.Equal(t, "text", p.Text())
	require.Equal(t, uint64(1<<40), p.Uvarint())
	require.Equal(t, int64(-7), p.Varint())
	require.True(t, p.OK())
	require.Zero(t, p.Varint())
	require.False(t, p.OK(), "it has ended")
	for n := range b {
		p := s.OpenPayload(s.Seal(b[:n], 0))
		_, _, _, _ = p.Byte(), p.Text(), p.Uvarint(), p.Varint()
		require.False(t, p.OK(), "cut after %d bytes", n)
	}
	p = s.OpenPayload("made up")
	require.Zero(t, p.Byte())
	require.False(t, p.OK())
}
