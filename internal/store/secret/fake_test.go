package secret_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/rest"

	"oidc-provider/internal/store/secret"
)

// An apiServer is a kube-apiserver that serves only the Secrets of the namespace
// "keys".
type apiServer struct {
	*httptest.Server
	cfg *rest.Config

	mu       sync.Mutex
	revision int
	secrets  map[string]*corev1.Secret
	events   []event
	news     chan struct{} // closed with the next event
	requests []*http.Request
	// before and after are called for every request, before and after it is
	// executed and before it is answered. They return true if they answered it.
	before, after func(w http.ResponseWriter, r *http.Request) bool
}

type event struct {
	Type   string         `json:"type"`
	Object *corev1.Secret `json:"object"`
}

// newAPIServer returns a server with connections in memory, as a synctest bubble needs.
func newAPIServer(t *testing.T) *apiServer {
	l := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	a := &apiServer{secrets: make(map[string]*corev1.Secret), news: make(chan struct{})}
	a.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: a}}
	a.cfg = &rest.Config{Host: "http://api.example:6443", Dial: l.dial}
	a.Start()
	t.Cleanup(func() {
		a.CloseClientConnections()
		a.Close()
	})
	return a
}

func (a *apiServer) store(t *testing.T) *secret.Store {
	t.Helper()
	s, err := secret.New(a.cfg, "keys", "ring")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A listener has its connections made in memory.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory"} }

// intercept sets before and after.
func (a *apiServer) intercept(before, after func(http.ResponseWriter, *http.Request) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.before, a.after = before, after
}

// stuck is a server that takes a request and never answers.
func stuck(_ http.ResponseWriter, r *http.Request) bool {
	io.Copy(io.Discard, r.Body) // only then does net/http see the client leave
	<-r.Context().Done()
	return true
}

// sent counts the requests with method so far.
func (a *apiServer) sent(method string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, r := range a.requests {
		if r.Method == method {
			n++
		}
	}
	return n
}

// get returns the Secret "ring", nil if there is none.
func (a *apiServer) get() *corev1.Secret {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.secrets["ring"].DeepCopy()
}

// put makes s the Secret "ring", as somebody else would. Nil deletes it.
func (a *apiServer) put(s *corev1.Secret) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s != nil {
		s = s.DeepCopy()
		s.Name, s.Namespace = "ring", "keys"
	}
	a.commit("ring", s)
}

func (a *apiServer) commit(name string, s *corev1.Secret) {
	old, kind := a.secrets[name], "MODIFIED"
	a.revision++
	switch {
	case s == nil && old == nil:
		return
	case s == nil:
		delete(a.secrets, name)
		kind, s = "DELETED", old
	default:
		if old == nil {
			s.UID, kind = types.UID(fmt.Sprintf("uid-%d", a.revision)), "ADDED"
		}
		s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}
		s.ResourceVersion = strconv.Itoa(a.revision)
		a.secrets[name] = s
	}
	a.events = append(a.events, event{kind, s.DeepCopy()})
	close(a.news)
	a.news = make(chan struct{})
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.requests = append(a.requests, r)
	before, after := a.before, a.after
	a.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	path, _ := strings.CutPrefix(r.URL.Path, "/api/v1/namespaces/")
	parts := strings.Split(path, "/")
	if len(parts) < 2 || parts[1] != "secrets" {
		http.Error(w, "404 page not found", 404)
		return
	}
	if r.URL.Query().Get("watch") == "true" {
		a.watch(w, r)
		return
	}
	s, err := a.serve(r, parts)
	if after != nil && after(w, r) {
		return
	}
	answer(w, s, err)
}

func answer(w http.ResponseWriter, s *corev1.Secret, err *apierrors.StatusError) {
	w.Header().Set("Content-Type", "application/json")
	if err == nil {
		json.NewEncoder(w).Encode(s)
		return
	}
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	w.WriteHeader(int(status.Code))
	json.NewEncoder(w).Encode(status)
}

var secrets = corev1.Resource("secrets")

func (a *apiServer) serve(r *http.Request, parts []string) (*corev1.Secret, *apierrors.StatusError) {
	namespace, name := parts[0], ""
	if len(parts) > 2 {
		name = parts[2]
	}
	sent := new(corev1.Secret)
	if r.Method != "GET" {
		if err := json.NewDecoder(r.Body).Decode(sent); err != nil || sent.Kind != "Secret" {
			return nil, apierrors.NewBadRequest("no Secret")
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case r.Method == "GET":
		if s := a.secrets[name]; namespace == "keys" && s != nil {
			return s.DeepCopy(), nil
		}
		return nil, apierrors.NewNotFound(secrets, name)
	case r.Method == "POST":
		return a.create(namespace, sent)
	}
	return a.update(name, sent)
}

func (a *apiServer) create(namespace string, s *corev1.Secret) (*corev1.Secret, *apierrors.StatusError) {
	switch {
	case namespace != "keys":
		return nil, apierrors.NewNotFound(corev1.Resource("namespaces"), namespace)
	case s.ResourceVersion != "" || s.Name == "":
		return nil, apierrors.NewBadRequest("resourceVersion should not be set, name should")
	case a.secrets[s.Name] != nil:
		return nil, apierrors.NewAlreadyExists(secrets, s.Name)
	}
	return a.accept(s)
}

// update does without a resourceVersion what a kube-apiserver does: it replaces
// whatever is there.
func (a *apiServer) update(name string, s *corev1.Secret) (*corev1.Secret, *apierrors.StatusError) {
	old := a.secrets[name]
	switch {
	case old == nil:
		return nil, apierrors.NewNotFound(secrets, name)
	case s.ResourceVersion != "" && s.ResourceVersion != old.ResourceVersion, s.UID != "" && s.UID != old.UID:
		return nil, apierrors.NewConflict(secrets, name, fmt.Errorf("the object has been modified"))
	case old.Immutable != nil && *old.Immutable:
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, name,
			field.ErrorList{field.Forbidden(field.NewPath("data"), "immutable")})
	}
	return a.accept(s)
}

func (a *apiServer) accept(s *corev1.Secret) (*corev1.Secret, *apierrors.StatusError) {
	size := 0
	for _, value := range s.Data {
		size += len(value)
	}
	if size > corev1.MaxSecretSize {
		return nil, apierrors.NewInvalid(schema.GroupKind{Kind: "Secret"}, s.Name,
			field.ErrorList{field.TooLong(field.NewPath("data"), "", corev1.MaxSecretSize)})
	}
	a.commit(s.Name, s)
	return s.DeepCopy(), nil
}

func (a *apiServer) watch(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	name, _ := strings.CutPrefix(query.Get("fieldSelector"), "metadata.name=")
	seconds, _ := strconv.Atoi(query.Get("timeoutSeconds"))
	timeout := time.NewTimer(time.Duration(seconds) * time.Second)
	defer timeout.Stop()
	w.Header().Set("Content-Type", "application/json")
	a.mu.Lock()
	seen := len(a.events)
	if s := a.secrets[name]; s != nil {
		json.NewEncoder(w).Encode(event{"ADDED", s})
	}
	for {
		events, news := a.events[seen:], a.news
		seen = len(a.events)
		a.mu.Unlock()
		for _, e := range events {
			if e.Object.Name == name {
				json.NewEncoder(w).Encode(e)
			}
		}
		w.(http.Flusher).Flush()
		select {
		case <-news:
		case <-timeout.C:
			return
		case <-r.Context().Done():
			return
		}
		a.mu.Lock()
	}
}
