#!/usr/bin/perl
# An application that says who it is: ready at once like instant.pl, and then it answers any request
# with the name of its job, which is that of its session directory. Each request gets a process of
# its own, so that a connection that hangs is in nobody's way.
%option = ('--host', '127.0.0.1', @ARGV);
($inet, $stream) = (2, 1);  # Linux's AF_INET and SOCK_STREAM
($name) = $ENV{HPCBRIDGE_DIRECTORY} =~ m{([^/]+)/*$};
$address = pack 'S n C4 x8', $inet, $option{'--port'}, split /[.]/, $option{'--host'};
socket LISTENER, $inet, $stream, 0 or die "socket: $!\n";
bind LISTENER, $address or die "bind: $!\n";
listen LISTENER, 64 or die "listen: $!\n";
$| = 1;
print 'Starting factory';
$SIG{CHLD} = 'IGNORE';
while (1) {
  accept CLIENT, LISTENER or next;
  if (!fork) {
    alarm 20;
    exit if !sysread CLIENT, $request, 16384;  # whoever only looks whether we accept
    syswrite CLIENT, "HTTP/1.0 200 OK\r\nContent-Length: " . length($name) . "\r\n\r\n$name";
    exit;
  }
  close CLIENT;
}
