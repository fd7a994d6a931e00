package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A floodKind opens a connection and does with it what costs the server most. It
// returns once the connection should be kept open, and may return nil.
type floodKind func(conn net.Conn) net.Conn

var floodKinds = map[string]floodKind{
	"idle after the handshake": func(conn net.Conn) net.Conn { return handshake(conn, "h2", "http/1.1") },
	"no handshake":             func(conn net.Conn) net.Conn { return conn },
	"half a handshake": func(conn net.Conn) net.Conn {
		handshake(halfConn{conn})
		return conn
	},
	"one request, then idle": func(conn net.Conn) net.Conn {
		c := handshake(conn, "http/1.1")
		io.WriteString(c, "GET /openid/v1/jwks HTTP/1.1\r\nHost: x\r\n\r\n")
		io.ReadFull(c, make([]byte, 100))
		return c
	},
	"a header that does not end": func(conn net.Conn) net.Conn {
		c := handshake(conn, "http/1.1")
		io.WriteString(c, "GET /openid/v1/jwks HTTP/1.1\r\nHost: x\r\nX-Large: "+strings.Repeat("a", 8<<10))
		return c
	},
	"answers that are not read": func(conn net.Conn) net.Conn {
		c := handshake(conn, "h2")
		unreadStreams(c)
		return c
	},
	"handshakes only": func(conn net.Conn) net.Conn {
		handshake(conn)
		conn.Close()
		return nil
	},
	"not TLS": func(conn net.Conn) net.Conn {
		io.WriteString(conn, strings.Repeat("GET / HTTP/1.1\r\n", 1000))
		return conn
	},
}

func handshake(conn net.Conn, protocols ...string) net.Conn {
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols})
	_ = c.Handshake() // the server may close the connection at any time
	return c
}

// halfConn sends the first half of what is written, and then nothing.
type halfConn struct{ net.Conn }

func (c halfConn) Write(p []byte) (int, error) {
	n, _ := c.Conn.Write(p[:len(p)/2])
	return n, io.ErrShortWrite
}

// unreadStreams sends as many requests as HTTP/2 allows, with large headers, and
// gives their answers no room.
func unreadStreams(c net.Conn) {
	io.WriteString(c, http2.ClientPreface)
	framer := http2.NewFramer(c, c)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for stream := range uint32(8) {
		block.Reset()
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "x"},
			{":path", "/openid/v1/jwks"}, {"x-large", strings.Repeat("a", 7<<10)}} {
			_ = encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1], Sensitive: true})
		}
		_ = framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 2*stream + 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true,
		})
	}
}

// flood KIND ADDRESS COUNT opens connections from several addresses of this
// machine, prints a line, and keeps them until its input ends.
func floodMain() {
	kind, address := floodKinds[os.Args[1]], os.Args[2]
	count, err := strconv.Atoi(os.Args[3])
	if err != nil || kind == nil {
		fmt.Println("usage: flood KIND ADDRESS COUNT")
		os.Exit(2)
	}
	var mu sync.Mutex
	var open []net.Conn // else they would be collected
	var workers sync.WaitGroup
	for worker := range 32 {
		workers.Go(func() {
			dialer := net.Dialer{Timeout: 5 * time.Second,
				LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+worker%8))}}
			for range count / 32 {
				conn, err := dialer.Dial("tcp", address)
				if err != nil {
					continue
				}
				if conn = kind(conn); conn != nil {
					mu.Lock()
					open = append(open, conn)
					mu.Unlock()
				}
			}
		})
	}
	workers.Wait()
	fmt.Println("open", len(open))
	io.Copy(io.Discard, os.Stdin)
}
