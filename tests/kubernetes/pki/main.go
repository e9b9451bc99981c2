// SPDX-License-Identifier: GPL-3.0-or-later

// Command pki makes the keys and certificates of a test cluster, where nothing else is there that
// could. The first two write NAME.crt and NAME.key, unless they are there.
//
//	pki ca NAME COMMON-NAME
//	pki sign CA NAME COMMON-NAME [ORGANISATION] [HOST ...]     a client's, or with hosts a server's too
//	pki key NAME                                               an RSA key and its public half
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pki:", err)
		os.Exit(1)
	}
}

func run(words []string) error {
	switch {
	case len(words) == 3 && words[0] == "ca":
		return authority(words[1], words[2])
	case len(words) >= 4 && words[0] == "sign":
		organisation, hosts := "", []string{}
		if len(words) > 4 {
			organisation, hosts = words[4], words[5:]
		}
		return sign(words[1], words[2], pkix.Name{CommonName: words[3]}, organisation, hosts)
	case len(words) == 2 && words[0] == "key":
		return signing(words[1])
	}
	return fmt.Errorf("ca NAME CN | sign CA NAME CN [O] [HOST ...] | key NAME")
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func authority(name, common string) error {
	if exists(name+".crt") && exists(name+".key") {
		return nil
	}
	made, err := template(pkix.Name{CommonName: common})
	if err != nil {
		return err
	}
	made.IsCA, made.BasicConstraintsValid = true, true
	made.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return write(name, made, made, key, key)
}

func sign(by, name string, subject pkix.Name, organisation string, hosts []string) error {
	pair, err := load(by)
	if err != nil {
		return err
	}
	if organisation != "" {
		subject.Organization = []string{organisation}
	}
	made, err := template(subject)
	if err != nil {
		return err
	}
	made.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	made.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if len(hosts) > 0 {
		made.ExtKeyUsage = append(made.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	for _, host := range hosts {
		if address := net.ParseIP(host); address != nil {
			made.IPAddresses = append(made.IPAddresses, address)
		} else {
			made.DNSNames = append(made.DNSNames, host)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	return write(name, made, pair.certificate, key, pair.key)
}

func signing(name string) error {
	if exists(name+".key") && exists(name+".pub") {
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := put(name+".pub", 0o644, "PUBLIC KEY", public); err != nil {
		return err
	}
	return put(name+".key", 0o600, "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
}

func template(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().AddDate(10, 0, 0),
	}, err
}

type pair struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func load(name string) (pair, error) {
	certificate, err := block(name + ".crt")
	if err != nil {
		return pair{}, err
	}
	parsed, err := x509.ParseCertificate(certificate)
	if err != nil {
		return pair{}, err
	}
	secret, err := block(name + ".key")
	if err != nil {
		return pair{}, err
	}
	key, err := x509.ParseECPrivateKey(secret)
	return pair{parsed, key}, err
}

func block(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	found, _ := pem.Decode(text)
	if found == nil {
		return nil, fmt.Errorf("%s holds nothing in PEM", path)
	}
	return found.Bytes, nil
}

func write(name string, made, by *x509.Certificate, key *ecdsa.PrivateKey, signer crypto.Signer) error {
	certificate, err := x509.CreateCertificate(rand.Reader, made, by, key.Public(), signer)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	if err := put(name+".key", 0o600, "EC PRIVATE KEY", secret); err != nil {
		return err
	}
	return put(name+".crt", 0o644, "CERTIFICATE", certificate)
}

func put(path string, mode os.FileMode, kind string, bytes []byte) error {
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes})
	if err := os.WriteFile(path+".part", text, mode); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}
