// Command etcd is a single-member etcd that serves a test's API server.
//
// It is a process of its own, so that the API server's store outlives the API
// server, and so that the test binary links neither etcd nor Kubernetes.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"go.etcd.io/etcd/server/v3/embed"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "etcd:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("etcd", flag.ExitOnError)
	dir := flags.String("dir", "", "data directory")
	client := flags.String("client", "", "address that clients connect to")
	peer := flags.String("peer", "", "address for peers; etcd insists on one, even alone")
	if err := flags.Parse(args); err != nil {
		return err
	}

	e, err := embed.StartEtcd(config(*dir, *client, *peer))
	if err != nil {
		return err
	}
	defer e.Close()

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	select {
	case <-stop:
		return nil
	case err := <-e.Err():
		return err
	}
}

func config(dir, client, peer string) *embed.Config {
	c := embed.NewConfig()
	c.Dir = dir
	c.ListenClientUrls = []url.URL{{Scheme: "http", Host: client}}
	c.AdvertiseClientUrls = c.ListenClientUrls
	c.ListenPeerUrls = []url.URL{{Scheme: "http", Host: peer}}
	c.AdvertisePeerUrls = c.ListenPeerUrls
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.LogLevel = "warn"
	// Left at zero, every request counts as slow and is logged.
	c.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	// No test survives a power cut, and a slow disk must not slow the tests.
	c.UnsafeNoFsync = true
	return c
}
