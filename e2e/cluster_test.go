package e2e

import (
	"context"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Who the tests' tokens are for. No controller-manager runs, so the tests make
// the namespace and the ServiceAccount themselves.
const (
	namespace      = "e2e"
	serviceAccount = "demo"
	subject        = "system:serviceaccount:" + namespace + ":" + serviceAccount

	adminToken = "admin-token"
)

// A cluster is one etcd and one kube-apiserver, which may be stopped and
// started again over the same etcd with other flags. Several may share an etcd.
type cluster struct {
	lab    *lab
	name   string // of the API server's log and directory
	etcd   string
	port   int
	server *child
	client kubernetes.Interface
}

// newCluster starts etcd; start brings up the API server.
func (l *lab) newCluster() *cluster {
	l.t.Helper()
	return l.newAPIServer("kube-apiserver", l.startEtcd())
}

func (l *lab) newAPIServer(name, etcd string) *cluster {
	l.t.Helper()
	c := &cluster{lab: l, name: name, etcd: etcd, port: l.freePort()}
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host:            "https://" + address(c.port),
		BearerToken:     adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAFile: l.ca.caFile},
		QPS:             -1, // the client's own limit would thin out the traffic
		Timeout:         15 * time.Second,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	c.client = client
	return c
}

func (l *lab) startEtcd() string {
	l.t.Helper()
	client := address(l.freePort())
	etcd := l.startChild("etcd", etcdBinary,
		"--dir", l.path("etcd"), "--client", client, "--peer", address(l.freePort()))
	etcd.awaitReady(30*time.Second, func() error {
		return expectOK(http.DefaultClient, "http://"+client+"/health")
	})
	return "http://" + client
}

// start runs kube-apiserver with the flags every test needs and those given,
// and returns when it serves and the ServiceAccount exists.
func (c *cluster) start(issuer string, flags ...string) {
	c.lab.t.Helper()
	c.launch(issuer, flags...)
	c.await()
}

func (c *cluster) launch(issuer string, flags ...string) {
	c.lab.t.Helper()
	tokens := c.lab.write("tokens.csv", adminToken+`,admin,admin,"system:masters"`+"\n")
	args := append([]string{
		"--etcd-servers=" + c.etcd,
		"--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", c.port),
		"--cert-dir=" + c.lab.path(c.name),
		"--tls-cert-file=" + c.lab.ca.certFile,
		"--tls-private-key-file=" + c.lab.ca.keyFile,
		"--token-auth-file=" + tokens,
		"--authorization-mode=RBAC",
		"--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-issuer=" + issuer,
		"--service-account-jwks-uri=" + issuer + "/openid/v1/jwks",
	}, flags...)
	c.server = c.lab.startChild(c.name, apiServerBinary, args...)
}

func (c *cluster) await() {
	c.lab.t.Helper()
	c.server.awaitReady(90*time.Second, c.ready)
	if err := c.ensureServiceAccount(c.lab.t.Context()); err != nil {
		c.lab.t.Fatal(err)
	}
}

func (c *cluster) ready() error {
	ctx, cancel := context.WithTimeout(c.lab.t.Context(), 5*time.Second)
	defer cancel()
	return c.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// stop ends the API server and leaves etcd and its data.
func (c *cluster) stop() {
	c.lab.t.Helper()
	c.server.stop(30 * time.Second)
	if err := c.ready(); err == nil {
		c.lab.t.Fatal("the API server answers after it was stopped")
	}
}

// ensureServiceAccount finds both objects there after a restart.
func (c *cluster) ensureServiceAccount(ctx context.Context) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	_, err := c.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	if err := ignoreExists(err); err != nil {
		return fmt.Errorf("creating namespace %s: %w", namespace, err)
	}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: serviceAccount}}
	_, err = c.client.CoreV1().ServiceAccounts(namespace).Create(ctx, sa, metav1.CreateOptions{})
	if err := ignoreExists(err); err != nil {
		return fmt.Errorf("creating ServiceAccount %s/%s: %w", namespace, serviceAccount, err)
	}
	return nil
}

func expectOK(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}
