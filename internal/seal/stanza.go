package seal

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"filippo.io/age"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/util/validation"
	kmsapi "k8s.io/kms/apis/v2"
)

// Limits for the answer of a plugin, in bytes, as in kube-apiserver.
const (
	maxKeyID       = 1 << 10
	maxCiphertext  = 1 << 10
	maxAnnotations = 32 << 10
)

// kmsStanza is the type of the age stanza that a KMS plugin opens. Its only argument
// is the DecryptRequest without ciphertext and uid, in base64url; its body is the
// ciphertext.
const kmsStanza = "oidc-provider/kms-v2"

const fileKeySize = 16 // bytes of the key that age encrypts a file with

// kmsRecipient is used for one call of Seal. It holds the context of that call, for
// which the interfaces of age have no parameter. The same goes for kmsIdentity.
type kmsRecipient struct {
	ctx    context.Context
	plugin *plugin
	labels []string
}

// Wrap implements [age.Recipient].
func (r *kmsRecipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	req, err := r.plugin.seal(r.ctx, fileKey)
	if err != nil {
		return nil, err
	}
	header, err := proto.MarshalOptions{Deterministic: true}.Marshal(
		&kmsapi.DecryptRequest{KeyId: req.KeyId, Annotations: req.Annotations})
	if err != nil {
		return nil, err
	}
	args := []string{base64.RawURLEncoding.EncodeToString(header)}
	return []*age.Stanza{{Type: kmsStanza, Args: args, Body: req.Ciphertext}}, nil
}

// WrapWithLabels implements [age.RecipientWithLabels].
func (r *kmsRecipient) WrapWithLabels(fileKey []byte) ([]*age.Stanza, []string, error) {
	stanzas, err := r.Wrap(fileKey)
	return stanzas, r.labels, err
}

type kmsIdentity struct {
	ctx    context.Context
	plugin *plugin // nil without a KMS plugin

	asked bool
	err   error // of the plugin, because age may not wrap it
}

// Unwrap implements [age.Identity].
func (id *kmsIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	var mine *age.Stanza
	for _, s := range stanzas {
		if s.Type != kmsStanza {
			continue
		}
		if mine != nil {
			// Seal writes one. An attacker could write a thousand, each a call to the plugin.
			return nil, errors.New("two KMS stanzas")
		}
		mine = s
	}
	if mine == nil || id.plugin == nil {
		return nil, age.ErrIncorrectIdentity
	}
	req, err := parseStanza(mine)
	if err != nil {
		return nil, err
	}
	id.asked = true
	fileKey, err := id.plugin.decrypt(id.ctx, req, fileKeySize)
	id.err = err
	return fileKey, err
}

func parseStanza(s *age.Stanza) (*kmsapi.DecryptRequest, error) {
	if len(s.Args) != 1 {
		return nil, errors.New("malformed KMS stanza")
	}
	header, err := base64.RawURLEncoding.Strict().DecodeString(s.Args[0])
	if err != nil {
		return nil, err
	}
	req := &kmsapi.DecryptRequest{}
	if err := proto.Unmarshal(header, req); err != nil {
		return nil, err
	}
	if len(req.Ciphertext) != 0 || req.Uid != "" {
		return nil, errors.New("malformed KMS stanza")
	}
	req.Ciphertext = s.Body
	return req, validate(req)
}

// validate checks the answer of a plugin to Encrypt, which is sent back to it later.
func validate(req *kmsapi.DecryptRequest) error {
	switch n := len(req.KeyId); {
	case n == 0:
		return errors.New("the key_id is empty")
	case n > maxKeyID:
		return fmt.Errorf("the key_id has %d bytes, more than %d", n, maxKeyID)
	}
	switch n := len(req.Ciphertext); {
	case n == 0:
		return errors.New("the ciphertext is empty")
	case n > maxCiphertext:
		return fmt.Errorf("the ciphertext has %d bytes, more than %d", n, maxCiphertext)
	}
	total := 0
	for key, value := range req.Annotations {
		if errs := validation.IsFullyQualifiedDomainName(nil, key); len(errs) > 0 {
			return fmt.Errorf("the annotation key %.80q is not a fully qualified domain name", key)
		}
		total += len(key) + len(value)
	}
	if total > maxAnnotations {
		return fmt.Errorf("the annotations have %d bytes, more than %d", total, maxAnnotations)
	}
	return nil
}
