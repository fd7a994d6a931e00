// Package secret keeps a ring in one Kubernetes Secret.
//
// The ring of a cluster's own issuer must not be kept in a Secret of that cluster:
// anyone who can read the Secret can sign tokens for every user of it.
// [Store.Issuer] and [TokenIssuer] return the issuer of the API server.
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"oidc-provider/internal/hint"
	"oidc-provider/internal/httpclient"
	"oidc-provider/internal/kube"
	"oidc-provider/rotation"
)

// ringKey is the data entry of the Secret with the ring.
const ringKey = "ring.json"

// Limits for one request. The caller's context may set a shorter one.
const (
	readTimeout  = 3 * time.Second
	writeTimeout = 5 * time.Second
)

// A Store is one Secret, of which it changes only the data entry "ring.json". It
// implements [rotation.Watcher].
type Store struct {
	namespace, name string
	server          *kube.Server
	client          *rest.RESTClient

	date atomic.Pointer[httpclient.Date]
}

// Close closes the connections to the API server.
func (s *Store) Close() error {
	s.server.CloseConnections()
	return nil
}

// Load implements [rotation.Store]. A Secret without the entry is an empty store;
// a Secret with an empty entry is not.
func (s *Store) Load(ctx context.Context) ([]byte, rotation.Version, error) {
	secret, err := s.get(ctx)
	if err != nil || version(secret) == "" {
		return nil, "", err
	}
	return secret.Data[ringKey], version(secret), nil
}

// Swap implements [rotation.Store]. It creates the Secret if needed, and changes only
// the ring of an existing one. Any change of the Secret since version old is a
// conflict.
func (s *Store) Swap(ctx context.Context, data []byte, old rotation.Version) error {
	secret, err := s.get(ctx)
	switch {
	case err != nil:
		return err
	case version(secret) != old:
		return rotation.ErrConflict
	case secret == nil:
		return s.create(ctx, data)
	}
	return s.update(ctx, secret, data)
}

// version returns the version of the ring, "" without a ring. With the UID, a Secret
// that was deleted and created again never has the version of the old one.
func version(secret *corev1.Secret) rotation.Version {
	if secret == nil {
		return ""
	}
	if _, ok := secret.Data[ringKey]; !ok {
		return ""
	}
	return rotation.Version(string(secret.UID) + "/" + secret.ResourceVersion)
}

// get returns nil if the Secret does not exist. It sends no resourceVersion: only
// then does the API server read from etcd's quorum instead of a cache, so that a
// replica can rely on reading the current state.
func (s *Store) get(parent context.Context) (*corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(parent, readTimeout)
	defer cancel()
	for {
		secret, err := s.send(ctx, s.client.Get().Name(s.name))
		switch {
		case err == nil:
			return secret, nil
		case isMissing(err, "secrets"):
			return nil, nil
		case !errors.Is(err, errNoConnection):
			return nil, s.failure(parent, s.doing("reading"), err)
		}
	}
}

func (s *Store) create(ctx context.Context, data []byte) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name:      s.name,
			Namespace: s.namespace,
			Labels:    map[string]string{"app.kubernetes.io/managed-by": "oidc-provider"},
		},
		Type: corev1.SecretTypeOpaque,
	}
	err := s.write(ctx, s.client.Post(), secret, data)
	switch {
	case err == nil:
		return nil
	case apierrors.IsAlreadyExists(err) && !apierrors.IsUnexpectedServerError(err):
		return rotation.ErrConflict
	case isMissing(err, "namespaces"):
		return hint.Errorf(fmt.Sprintf("create it with `kubectl create namespace %s`", s.namespace),
			"%s: the namespace does not exist", s.doing("creating"))
	}
	return s.failure(ctx, s.doing("creating"), err)
}

// update relies on the resourceVersion and the UID in the object: with them, the API
// server refuses to replace anything but the object that was read.
func (s *Store) update(ctx context.Context, secret *corev1.Secret, data []byte) error {
	if secret.Immutable != nil && *secret.Immutable {
		return hint.Errorf("save the ring with `oidc-provider keys backup`, delete the Secret, "+
			"and restore the ring with `oidc-provider keys restore`",
			"%s: it is marked immutable, which cannot be undone", s.doing("writing"))
	}
	err := s.write(ctx, s.client.Put().Name(s.name), secret, data)
	switch {
	case err == nil:
		return nil
	case apierrors.IsConflict(err) && !apierrors.IsUnexpectedServerError(err), isMissing(err, "secrets"):
		return rotation.ErrConflict
	}
	return s.failure(ctx, s.doing("writing"), err)
}

func (s *Store) write(ctx context.Context, req *rest.Request, secret *corev1.Secret, data []byte) error {
	if secret.Data == nil {
		secret.Data = make(map[string][]byte)
	}
	secret.Data[ringKey] = data
	size := 0
	for _, value := range secret.Data {
		size += len(value)
	}
	if size > corev1.MaxSecretSize {
		return errTooLarge
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	stored, err := s.send(ctx, req.Body(secret))
	if err == nil && !bytes.Equal(stored.Data[ringKey], data) {
		err = &malformedError{"it stored something else than was sent",
			"exclude this Secret from admission webhooks that change it"}
	}
	return err
}

// send sends req once. By default, client-go repeats a request that a busy server
// answers with Retry-After, even a write that may have succeeded. The second attempt
// would then conflict with the first.
func (s *Store) send(ctx context.Context, req *rest.Request) (*corev1.Secret, error) {
	ctx, done := s.track(ctx)
	defer done()
	result := req.Namespace(s.namespace).Resource("secrets").MaxRetries(0).Do(ctx)
	if err := result.Error(); err != nil {
		return nil, err
	}
	// A body of "{}" also decodes, and must not pass for an empty store.
	var secret corev1.Secret
	if err := result.Into(&secret); err != nil {
		return nil, foreign("its answer cannot be read: " + err.Error())
	}
	if secret.Name != s.name || secret.Namespace != s.namespace || secret.UID == "" || secret.ResourceVersion == "" {
		return nil, foreign("its answer is not that Secret")
	}
	return &secret, nil
}

// doing names the Secret and its API server for an error.
func (s *Store) doing(verb string) string {
	return fmt.Sprintf("%s Secret %s/%s at the API server %s", verb, s.namespace, s.name, s.server.Host())
}
