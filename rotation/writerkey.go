package rotation

import (
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
)

// A WriterKey signs rings. Its private half never prints.
type WriterKey struct {
	// Recipient is what the key was derived from: an age recipient, or "kms".
	Recipient string

	// A function, so that no verb prints the key, even if the WriterKey is in an
	// unexported field, where fmt does not call Format.
	key func() ed25519.PrivateKey
}

// NewWriterKey returns the key with an Ed25519 seed of 32 bytes (RFC 8032, section
// 5.1.5). It panics if the seed has another length.
func NewWriterKey(recipient string, seed []byte) WriterKey {
	key := ed25519.NewKeyFromSeed(seed)
	return WriterKey{Recipient: recipient, key: func() ed25519.PrivateKey { return key }}
}

// Public returns the key that verifies the signatures of k.
func (k WriterKey) Public() ed25519.PublicKey { return k.key().Public().(ed25519.PublicKey) }

// Sign returns the signature of message, 64 bytes (RFC 8032, Ed25519).
func (k WriterKey) Sign(message []byte) []byte { return ed25519.Sign(k.key(), message) }

// Format implements [fmt.Formatter] and prints only the recipient.
func (k WriterKey) Format(s fmt.State, _ rune) { io.WriteString(s, "[writer key of "+k.Recipient+"]") }

// LogValue implements [slog.LogValuer] and logs only the recipient.
func (k WriterKey) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(k)) }
