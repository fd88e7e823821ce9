#!/usr/bin/perl
# An application that is ready at once: it listens on --host (an IPv4 address) and --port (0: any),
# says wslink's ready line, without a newline as wslink does, and accepts for ever. Perl without any
# module, because it starts in two milliseconds: what is measured is the launcher.
%option = ('--host', '127.0.0.1', @ARGV);
($inet, $stream) = (2, 1);  # Linux's AF_INET and SOCK_STREAM; "use Socket" takes 6 ms
$address = pack 'S n C4 x8', $inet, $option{'--port'}, split /[.]/, $option{'--host'};
socket LISTENER, $inet, $stream, 0 or die "socket: $!\n";
bind LISTENER, $address or die "bind: $!\n";
listen LISTENER, 16 or die "listen: $!\n";
$| = 1;
print 'Starting factory';
close CLIENT while accept CLIENT, LISTENER;
