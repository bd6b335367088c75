<?php

namespace Acme\Money;

final class Money
{
    public function __construct(private int $cents)
    {
    }

    public function __toString(): string
    {
        return number_format($this->cents / 100, 2) . ' EUR';
    }
}
