module twisted-rudp.test/raknetgo

go 1.24.0

require github.com/sandertv/go-raknet v1.15.2-0.20260705184311-0d1fd09e2cf6
